"""A sample in words: every text, state and table that the page shows, by the name of its place.

The page that is served and the script that follows it both put these texts where the template
names them, so that there is one place that knows units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from querycache.doors.dashboard.sample import Happened, Sample
from querycache.usecases.show_status import Health, Latencies

NONE = "–"  # noqa: RUF001 -- a dash
_KB = 1024.0
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_SIZES = ("B", "KB", "MB", "GB")
_LONGEST = 200
_PLAIN = 100  # a number that needs no decimals


class Row(msgspec.Struct, frozen=True):
    """One row of a table. `name` tells it from the others, `state` colours it."""

    name: str
    cells: list[str]
    state: str = ""


class Shown(msgspec.Struct, frozen=True):
    """What stands where. `meters` are shares from 0 to 1."""

    texts: dict[str, str]
    states: dict[str, str]
    meters: dict[str, float]
    tables: dict[str, list[Row]]


def shown(sample: Sample) -> Shown:
    """A sample in words."""
    memory = sample.memory
    return Shown(
        texts={
            **_status(sample),
            **_rates(sample),
            **_memory(sample),
            **_savings(sample),
        },
        states={
            "door": "open",
            "status": sample.health.status,
            "pressure": memory.level,
            "l2": "on" if sample.health.l2_connected else "off",
        },
        meters={
            "l1": _share(memory.l1_bytes, memory.l1_max_bytes),
            "memory": _share(memory.used, memory.limit),
        },
        tables={
            "findings": _findings(sample),
            "kinds": _kinds(sample),
            "tiers": _tiers(sample),
            "projects": _projects(sample),
            "processes": _processes(sample),
            "events": [_event(one, number) for number, one in enumerate(sample.events)],
        },
    )


# --- words for figures ---------------------------------------------------------------------------


def percent(share: float, of: object = 1) -> str:
    """98.2 %; a dash where there is nothing to have a share of."""
    return f"{share * 100:.1f} %" if of else NONE


def size(count: float | None) -> str:
    """12.5 MB."""
    if count is None:
        return NONE
    unit, *larger = _SIZES
    while larger and count >= _KB:
        count /= _KB
        unit, *larger = larger
    return f"{count:.0f} {unit}" if unit == "B" or count >= _PLAIN else f"{count:.1f} {unit}"


def span(seconds: float | None) -> str:
    """850 µs, 12 ms, 3.2 s, 5 min, 2 h, 3 days."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    for limit, unit, name in ((1e-3, 1e-6, "µs"), (1.0, 1e-3, "ms"), (_MINUTE, 1.0, "s")):
        if seconds < limit:
            return f"{seconds / unit:.3g} {name}"
    for limit, unit, name in ((2 * _HOUR, _MINUTE, "min"), (2 * _DAY, _HOUR, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / _DAY:.0f} days"


def count(number: object) -> str:
    """12,345."""
    return f"{number:,}" if isinstance(number, int) else NONE


def ago(then: float, now: float) -> str:
    """How long something is past."""
    since = max(0.0, now - then)
    return "now" if since < 1 else f"{span(math.floor(since))} ago"


def time_of(at: float) -> str:
    """14:03:59 UTC."""
    return f"{datetime.fromtimestamp(at, UTC):%H:%M:%S} UTC"


def _share(part: float, whole: float) -> float:
    return min(1.0, part / whole) if whole else 0.0


def _ms(milliseconds: float | None) -> str:
    return span(None if milliseconds is None else milliseconds / 1e3)


# --- what stands where ---------------------------------------------------------------------------


def _status(sample: Sample) -> dict[str, str]:
    health = sample.health
    return {
        "status": health.status,
        "version": sample.version,
        "at": time_of(sample.at),
        "uptime": span(math.floor(sample.uptime_s)),
        "l2_backend": health.l2_backend,
        "l2_where": health.l2_where,
        "l2_ping": _ms(health.l2_ping_time),
        "l2_connected": "answers" if health.l2_connected else "does not answer",
        "l2_more": _l2_more(health),
    }


def _l2_more(health: Health) -> str:
    told = ""
    if health.l2_connected and health.invalidation_lag_ms is not None:
        told += f" · lag {_ms(health.invalidation_lag_ms)}"
    if untold := health.pending.dirty + health.pending.recovery:
        told += f" · {untold:,} untold"
    return told


def _rates(sample: Sample) -> dict[str, str]:
    stats = sample.stats
    hits, misses = _whole(stats, "hit_count"), _whole(stats, "miss_count")
    reads = hits + misses
    return {
        "hit_rate": percent(_real(stats, "hit_rate"), reads),
        "hits": count(hits),
        "reads": count(reads),
        "operations": count(stats.get("total_operations")),
        "reads_per_s": f"{sample.steps.get('reads', 0.0):,.1f}",
        "now.hit": _step_share(sample, "hit"),
        "now.hit.l1": _step_share(sample, "hit.l1"),
        "now.hit.l2": _step_share(sample, "hit.l2"),
        "now.p95.l1": span(sample.steps.get("p95.l1")),
        "now.p95.l2": span(sample.steps.get("p95.l2")),
        "now.p95.load": span(sample.steps.get("p95.load")),
    }


def _memory(sample: Sample) -> dict[str, str]:
    memory, l1 = sample.memory, sample.tiers.l1
    return {
        "l1_bytes": size(memory.l1_bytes),
        "l1_max": size(memory.l1_max_bytes),
        "l1_size": count(l1.size),
        "rss": size(memory.rss),
        "used": size(memory.used),
        "limit": size(memory.limit),
        "source": memory.source,
        "pressure": memory.level,
    }


def _savings(sample: Sample) -> dict[str, str]:
    saved = sample.savings
    about = "~" if saved.tokens_estimated and saved.tokens else ""
    told = f"{saved.calls:,} embedding calls · {about}{saved.tokens:,} tokens"
    if saved.money is not None:
        told += f" · {saved.money:,.2f} in money"
    return {"saved": span(saved.ms / 1e3) if saved.ms else NONE, "saved_more": told}


def _findings(sample: Sample) -> list[Row]:
    return [
        Row(f"{number} {one.name}", [one.name, one.evidence, one.remedy], one.severity)
        for number, one in enumerate(sample.findings)
    ]


def _kinds(sample: Sample) -> list[Row]:
    rows: list[Row] = []
    for kind, given in cast("dict[str, Any]", sample.stats.get("by_kind", {})).items():
        counts = cast("dict[str, object]", given)
        hits, misses = _whole(counts, "hit_count"), _whole(counts, "miss_count")
        reads = hits + misses
        latency = msgspec.convert(counts.get("latency"), Latencies)
        cells = [
            kind,
            count(reads),
            percent(_real(counts, "hit_rate"), reads),
            "",
            *(count(counts.get(name)) for name in ("l1_hits", "l2_hits", "miss_count", "loads")),
            "",
            _ms(latency.l2.p95_ms),
            _ms(latency.load.p95_ms),
            span(saved) if (saved := _real(counts, "saved_s")) else NONE,
        ]
        rows.append(Row(kind, cells, "" if reads else "idle"))
    return rows


def _tiers(sample: Sample) -> list[Row]:
    l1, l2 = sample.tiers.l1, sample.tiers.l2
    rows: list[Row] = []
    for name, tier, took, errors, entries, evicted, held in (
        ("L1", l1, sample.latency.l1, NONE, l1.size, count(l1.evictions), l1.memory_usage_bytes),
        ("L2", l2, sample.latency.l2, count(l2.errors), l2.entries, NONE, l2.bytes),
    ):
        rate = percent(tier.hit_rate, tier.total_operations)
        cells = [name, count(tier.hits), count(tier.misses), rate]
        cells += [_ms(took.p50_ms), _ms(took.p95_ms), errors]
        rows.append(
            Row(
                name,
                [*cells, count(entries), evicted, size(held)],
                "" if tier.enabled else "idle",
            )
        )
    return rows


def _projects(sample: Sample) -> list[Row]:
    rows: list[Row] = []
    for one in sample.projects:
        project = one.project
        stale = project.stale_files
        cells = [
            project.name,
            f"{stale:,} stale" if stale else "fresh",
            count(project.files),
            count(project.chunks),
            count(project.generation),
            ago(project.indexed_at, sample.at) if project.indexed_at else "never",
            one.watcher or "nobody",
            _ms(one.lag_ms),
        ]
        rows.append(Row(project.name, cells, "warning" if stale else "ok"))
    return rows


def _processes(sample: Sample) -> list[Row]:
    return [
        Row(
            one.name,
            [
                f"{one.name}{' · this' if one.this else ''}",
                span(math.floor(max(0.0, sample.at - one.started))),
                count(one.total_operations),
                percent(one.hit_rate, one.total_operations),
                size(one.l1_bytes),
            ],
        )
        for one in sample.processes
    ]


_SAID = {
    "Invalidated": ("invalidated", ""),
    "ChannelLost": ("channel lost", "warning"),
    "TierFailed": ("L2 failed", "error"),
    "Unreadable": ("unreadable", "error"),
    "Healed": ("healed", "warning"),
    "LoadFailed": ("load failed", "error"),
    "NotStored": ("not stored", ""),
    "FileChanged": ("file changed", ""),
    "Pressure": ("memory", "warning"),
}


def _event(one: Happened, number: int) -> Row:
    said, state = _SAID.get(one.event, (one.event, ""))
    about = " ".join(
        f"{name}={value}" if name not in {"key", "tag"} else str(value)
        for name, value in one.detail.items()
        if value not in ("", "here", None)
    )
    times = f" ×{one.times:,}" if one.times > 1 else ""  # noqa: RUF001 -- a times sign
    return Row(str(number), [said + times, time_of(one.at), one.process, _cut(about)], state)


def _cut(text: str) -> str:
    """One line that holds no control characters."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def _step_share(sample: Sample, name: str) -> str:
    share = sample.steps.get(name)
    return NONE if share is None else percent(share)


def _whole(counts: Mapping[str, object], name: str) -> int:
    value = counts.get(name)
    return value if isinstance(value, int) else 0


def _real(counts: Mapping[str, object], name: str) -> float:
    value = counts.get(name)
    return float(value) if isinstance(value, int | float) else 0.0
