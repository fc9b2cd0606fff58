"""Asks the living processes to compare their tiers, and gathers what they found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from querycache.assembly.comparing import Answered, Everywhere, everywhere
from querycache.doors.cli.render import cell, span, table

if TYPE_CHECKING:
    from querycache.assembly import App


async def compared(app: App, patience_s: float) -> Everywhere:
    """Waits until each living process has answered, or for so long."""
    return await everywhere(app.registry, app.clock, patience_s)


def as_text(everywhere: Everywhere) -> Group | Text:
    """The same for people."""
    if not everywhere.processes:
        return Text(
            "no querycache process with this QUERYCACHE_HOME is running: there is no L1 to compare"
        )
    numbers = ("compared", "differed", "not in L2", "took")
    made = table("process", *numbers, "", numbers=numbers)
    for one in everywhere.processes:
        _add(made, one)
    named = [Text(), Text("dropped from memory, so that L2 is asked:", "yellow")]
    named += [cell(key) for key in everywhere.mismatched_keys]
    return Group(made, *named) if everywhere.mismatched_keys else Group(made)


def _add(made: Table, one: Answered) -> None:
    name = cell(f"{one.door} {one.pid}", "bold")
    found = one.found
    if found is None:
        made.add_row(name, "-", "-", "-", "-", Text("did not answer", "yellow"))
        return
    counts = (found.checked_keys, found.stale_entries, found.absent)
    took = span(found.took_ms / 1000)
    made.add_row(name, *(f"{count:,}" for count in counts), took, cell(found.note, "dim"))
