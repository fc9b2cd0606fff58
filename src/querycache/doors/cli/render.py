"""Answers about projects and the cache, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from querycache.doors.cli.screen import line

if TYPE_CHECKING:
    from querycache.assembly.models import Model
    from querycache.config import Row
    from querycache.usecases.index_project import Indexed
    from querycache.usecases.list_keys import Pattern
    from querycache.usecases.list_projects import Listed
    from querycache.usecases.show_status import Checks, Health, Pending

_KB = 1024
_MB = 1024 * _KB
_GB = 1024 * _MB
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_STATUS = {"healthy": "green", "degraded": "yellow", "unhealthy": "red", "disconnected": "red"}


def table(*columns: str, numbers: Sequence[str] = (), title: str = "") -> Table:
    """A table without frames; columns named in `numbers` stand to the right."""
    made = Table(box=None, pad_edge=False, title=title or None, title_justify="left")
    made.header_style = "bold"
    made.title_style = "bold"
    for column in columns:
        right = column in numbers
        made.add_column(
            column, justify="right" if right else "left", no_wrap=right, overflow="fold"
        )
    return made


def cell(text: str, style: str = "") -> Text:
    """Text of unknown origin."""
    return Text(line(text), style)


def size(count: float) -> str:
    """Bytes as people say them."""
    if count < _KB:
        return f"{count:.0f} B"
    if count < _MB:
        return f"{count / _KB:.1f} KB"
    return f"{count / _MB:.1f} MB" if count < _GB else f"{count / _GB:.1f} GB"


def span(seconds: float) -> str:
    """A duration as people say it."""
    for limit, unit, name in (
        (1.0, 1e-3, "ms"),
        (2 * _MINUTE, 1.0, "s"),
        (2 * _HOUR, _MINUTE, "min"),
        (2 * _DAY, _HOUR, "h"),
    ):
        if seconds < limit:
            amount = seconds / unit
            return f"{amount:.2f} {name}" if amount < 10 and unit < 1 else f"{amount:.0f} {name}"  # noqa: PLR2004 -- digits
    return f"{seconds / _DAY:.0f} days"


def indexed(done: Indexed) -> Text:
    """What a run did."""
    changes = f"{done.files_changed} changed"
    if done.files_removed:
        changes += f", {done.files_removed} removed"
    text = Text()
    text.append(line(done.project), "bold")
    text.append(f": {done.files:,} files ({changes}), {done.chunks:,} chunks\n")
    text.append(f"embedded {done.embedded:,} texts, {done.embedding_cache_hits:,} were cached")
    text.append(f"; generation {done.generation}, {span(done.took_ms / 1e3)}")
    if skipped := {reason: count for reason, count in done.skipped.items() if count}:
        told = ", ".join(f"{count:,} {line(reason)}" for reason, count in sorted(skipped.items()))
        text.append(f"\nskipped: {told}", "dim")
    return text


def project_table(found: Sequence[Listed], now: float) -> Table | Text:
    """All projects."""
    if not found:
        return Text("no project is indexed; index one: querycache index PATH")
    numbers = ("files", "chunks", "generation", "changed since")
    made = table("project", *numbers, "indexed", "root", numbers=numbers)
    for row in found:
        made.add_row(
            cell(row.name, "bold"),
            f"{row.files:,}",
            f"{row.chunks:,}",
            str(row.generation),
            Text(str(row.stale_files), "yellow" if row.stale_files else "dim"),
            f"{span(max(0.0, now - row.indexed_at))} ago" if row.indexed_at else "not yet",
            cell(row.root),
        )
    return made


def health_text(health: Health) -> Text:
    """How the cache is."""
    text = Text()
    text.append(health.status, f"bold {_STATUS[health.status]}")
    text.append(f"\nL2  {health.l2_backend}")
    if health.l2_connected:
        ping = health.l2_ping_time
        text.append(", connected" + ("" if ping is None else f", {ping:.2f} ms"))
        if health.l2_entries is not None and health.l2_bytes is not None:
            bound = f" of {size(health.l2_max_bytes)}" if health.l2_max_bytes else ""
            text.append(f", {health.l2_entries:,} entries, {size(health.l2_bytes)}{bound}")
    else:
        text.append(", not connected" if health.l2_backend != "none" else "")
    if health.redis_connected:
        pool, memory = health.connection_pool_stats, health.memory_usage
        text.append(
            f"\n    memory {memory['used_memory_human']}, peak"
            f" {memory['used_memory_peak_human']}; connections"
            f" {pool['in_use_connections']} in use of {pool['created_connections']},"
            f" at most {pool['max_connections']}"
        )
        if health.invalidation_lag_ms is not None:
            text.append(f"; an invalidation takes {health.invalidation_lag_ms:.1f} ms")
    for problem in health.problems:
        text.append(f"\n{line(problem)}", "yellow")
    return text


def agreement(checks: Checks, pending: Pending, lag_ms: float | None, now: float) -> str:
    """Whether the tiers agreed when that was last looked at, what L2 was not told yet, and how
    long news takes.
    """
    compared = "the tiers were not compared yet"
    if checks.checks:
        compared = (
            f"comparisons of the tiers: {checks.checks:,}, of {checks.compared:,} entries,"
            f" {checks.mismatches:,} of which differed; the last one"
            f" {span(max(0.0, now - checks.last_at))} ago"
        )
    told = [compared]
    if pending.dirty or pending.recovery:
        told.append(f"{pending.dirty:,} entries to be written, {pending.recovery:,} to recover")
    if lag_ms is not None:
        told.append(f"an invalidation takes {lag_ms:.1f} ms")
    return "; ".join(told)


def key_table(patterns: Sequence[Pattern], *, sizes: bool) -> Table | Text:
    """What L2 holds, by pattern; with `sizes`, how much of it."""
    if not patterns:
        return Text("the shared tier holds no entries")
    total = sum(pattern.bytes for pattern in patterns)
    numbers = ("count", "size", "share") if sizes else ("count",)
    made = table("pattern", *numbers, numbers=numbers, title="Cache key patterns:")
    for row in patterns:
        shares = [size(row.bytes), f"{row.bytes / total:.1%}" if total else "-"] if sizes else []
        made.add_row(cell(row.pattern), f"{row.count:,}", *shares)
    if sizes:
        made.caption = f"Total cache memory: {total / _MB:.1f} MB"
        made.caption_justify = "left"
    return made


def type_table(patterns: Sequence[Pattern]) -> Table:
    """How much of L2 each kind of entry holds."""
    held: dict[str, int] = {}
    for row in patterns:
        kind = row.pattern.split(":")[-3]  # prefix, kind, project, *
        held[kind] = held.get(kind, 0) + row.bytes
    total = sum(held.values())
    numbers = ("size", "share")
    made = table("type", *numbers, numbers=numbers, title="Memory usage by type:")
    for kind, count in sorted(held.items(), key=lambda item: -item[1]):
        share = f"{count / total:.1%}" if total else "-"
        made.add_row(cell(kind), f"{count / _MB:.1f} MB", share)
    return made


def settings_table(rows: Sequence[Row]) -> Table:
    """All settings; what is set stands out."""
    made = table("setting", "value", "from", "what it does")
    for row in rows:
        style = "dim" if row.source == "default" else "bold"
        made.add_row(cell(row.variable, style), cell(row.value), row.source, Text(row.help, "dim"))
    return made


def models_table(found: Sequence[Model]) -> Table:
    """The embedding models."""
    made = table("", "model", "installed", "where")
    for model in found:
        installed = "yes" if model.installed else f"no: querycache models install {model.name}"
        name = cell(model.name, "bold" if model.used else "")
        made.add_row("used" if model.used else "", name, installed, cell(model.where, "dim"))
    return made
