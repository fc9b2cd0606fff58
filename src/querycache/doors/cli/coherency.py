"""Asks the living processes to compare their tiers, and gathers what they found."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
from rich.console import Group
from rich.table import Table
from rich.text import Text

from querycache.assembly.comparing import REQUEST, Compared
from querycache.doors.cli.render import cell, span, table
from querycache.usecases.check_coherency import Coherency

if TYPE_CHECKING:
    from querycache.assembly import App
    from querycache.observe.registry import Published

_LOOK_S = 0.1


class Answered(msgspec.Struct, frozen=True):
    """What one process found; None where it did not answer in time."""

    pid: int
    door: str
    found: Coherency | None


class Everywhere(msgspec.Struct, frozen=True):
    """What all of them found. `coherent`: all answered, and nothing differed."""

    coherent: bool
    stale_entries: int
    mismatched_keys: list[str]
    processes: list[Answered]


async def compared(app: App, patience_s: float) -> Everywhere:
    """Waits until each living process has answered, or for so long."""
    registry = app.registry
    asked = await asyncio.to_thread(registry.living)
    request = await asyncio.to_thread(registry.request, REQUEST)
    try:
        until = app.clock.monotonic() + patience_s
        answers = [_answer(told, request) for told in asked]
        while not all(one.found for one in answers) and app.clock.monotonic() < until:
            await app.clock.sleep(_LOOK_S)
            now = {told.pid: told for told in await asyncio.to_thread(registry.living)}
            asked = [now[told.pid] for told in asked if told.pid in now]
            answers = [_answer(told, request) for told in asked]
    finally:
        await asyncio.to_thread(registry.withdraw, REQUEST)
    found = [one.found for one in answers if one.found is not None]
    return Everywhere(
        coherent=len(found) == len(answers) and all(one.coherent for one in found),
        stale_entries=sum(one.stale_entries for one in found),
        mismatched_keys=list(dict.fromkeys(key for one in found for key in one.mismatched_keys)),
        processes=answers,
    )


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


def _answer(told: Published, request: int) -> Answered:
    try:
        compared = msgspec.convert(told.document.get(REQUEST), Compared)
    except msgspec.ValidationError:  # none yet, or of another version
        return Answered(told.pid, told.door, None)
    return Answered(told.pid, told.door, compared.found if compared.request == request else None)
