"""A diagnosis, a report and a judged redis.conf, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from querycache.doors.cli.render import cell, key_table, settings_table, size, table, type_table
from querycache.doors.cli.screen import line

if TYPE_CHECKING:
    from querycache.doors.cli.commands_doctor import Report
    from querycache.ports.findings import Severity
    from querycache.usecases.diagnose import Checked, Diagnosis
    from querycache.usecases.diagnose.redis_conf import Wrong
    from querycache.usecases.list_keys import Pattern

_COLOURS: dict[Severity, str] = {"info": "cyan", "warning": "yellow", "error": "red"}


def checks(found: Sequence[Checked], *, verbose: bool) -> Table:
    """The checks, a line each; with `verbose`, all that they saw."""
    made = Table(box=None, show_header=False, pad_edge=False)
    made.add_column(no_wrap=True)
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold" if verbose else "ellipsis")  # the one that gives way
    made.add_column(no_wrap=True, justify="right")
    for check in found:
        names = ", ".join(dict.fromkeys(check.findings))
        mark = Text("✗", "bold red") if names else Text("✓", "green")
        seen = Text(no_wrap=not verbose)
        seen.append(names, "bold red")
        told = check.seen if verbose else [] if names else [" · ".join(check.seen[:2])]
        for one in told:
            seen.append("\n" if seen else "")
            seen.append(line(one), "dim")
        name = Text(check.name, "bold" if names else "")
        made.add_row(mark, name, seen, Text(f"{check.took_ms:.0f} ms", "dim"))
    return made


def findings(diagnosis: Diagnosis) -> Text:
    """Each with its evidence and its remedy, and the sum of it. To be printed with `soft_wrap`:
    a command that is broken in two can't be pasted.
    """
    text = Text()
    for found in diagnosis.findings:
        colour = _COLOURS[found.severity]
        text.append(found.severity, f"bold {colour}")
        text.append(f"  {found.name}\n", "bold")
        text.append(f"  {line(found.evidence)}\n")
        text.append("  → ", colour)
        text.append(f"{line(found.remedy)}\n\n", "green")
    took = f"; {len(diagnosis.checks)} checks in {diagnosis.took_ms / 1000:.1f} s"
    count = len(diagnosis.findings)
    if count:
        words = "1 finding" if count == 1 else f"{count} findings"
        text.append(words, "cyan" if diagnosis.well else "bold red")
    else:
        text.append("nothing is wrong", "bold green")
    text.append(took, "dim")
    return text


def report(found: Report) -> Group:
    """The lines of the guide, then versions, settings, memory and keys."""
    shown: list[RenderableType] = [Text(one) for one in found.lines()]
    shown += [Text(), Text("Versions:", "bold")]
    shown += [cell(f"  {name}: {version}") for name, version in found.versions.items()]
    shown += [Text(), Text("Configuration (what is not at its default):", "bold")]
    changed = [row for row in found.settings if row.source != "default"]
    shown.append(settings_table(changed) if changed else Text("  every setting is at its default"))
    if found.servers:
        shown += [Text(), Text("Redis memory:", "bold"), _servers(found)]
    counted = [cell(found.keys_error, "yellow")] if found.keys_error else _keys(found.patterns)
    shown += [Text(), *counted]
    return Group(*shown)


def _servers(found: Report) -> Table:
    numbers = ("used_memory", "human", "peak", "maxmemory", "fragmentation")
    made = table("server", *numbers, "policy", numbers=numbers)
    for one in found.servers:
        made.add_row(
            cell(one.where),
            f"{one.memory_bytes}",
            one.memory_human,
            one.memory_peak_human,
            size(one.max_memory_bytes) if one.max_memory_bytes else "none",
            f"{one.fragmentation:.2f}",
            cell(one.max_memory_policy),
        )
    return made


def _keys(patterns: Sequence[Pattern]) -> list[RenderableType]:
    shown: list[RenderableType] = [key_table(patterns, sizes=True)]
    return [*shown, Text(), type_table(patterns)] if patterns else shown


def redis_conf(path: str, wrong: Sequence[Wrong]) -> Text:
    """What is wrong with a redis.conf, a line each."""
    if not wrong:
        return Text(f"{line(path)} is fine")
    text = Text()
    for one in wrong:
        colour = "red" if one.stops else "yellow"
        text.append("error" if one.stops else "warning", f"bold {colour}")
        place = f"{path}:{one.line}" if one.line else path
        text.append(f"  {line(place)}: ")
        text.append(f"{line(one.text)}: " if one.text else "", "bold")
        text.append(f"{line(one.why)}\n")
    text.rstrip()
    return text
