"""What the dashboard shows of one moment, and how it is gathered from an App."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, cast

import msgspec

from querycache import events
from querycache.assembly.alerting import thresholds
from querycache.doors.dashboard.found import called, findings
from querycache.ports.findings import Finding
from querycache.usecases.diagnose.figures import Memory as Limits
from querycache.usecases.list_projects import Listed
from querycache.usecases.show_status import (
    Health,
    Latencies,
    Savings,
    Snapshot,
    Tiers,
    latencies,
    savings,
    totals,
)

if TYPE_CHECKING:
    from querycache.assembly.app import App
    from querycache.observe.registry import Published

EVENTS_SHOWN = 30

_NOTABLE = (
    events.Invalidated,
    events.ChannelLost,
    events.TierFailed,
    events.Unreadable,
    events.Healed,
    events.LoadFailed,
    events.NotStored,
    events.FileChanged,
    events.Pressure,
)
NOTABLE = {type_.__name__: type_ for type_ in _NOTABLE}
"""What is worth a line: invalidations, and what failed or healed."""


class Memory(msgspec.Struct, frozen=True):
    """Bytes: of L1, of this process (`rss`), and of whatever limits it (`source`: a cgroup, the
    machine). `level` is the pressure; "" before the first look.
    """

    l1_bytes: int
    l1_max_bytes: int
    rss: int | None = None
    used: int = 0
    limit: int = 0
    source: str = ""
    level: str = ""


class Fresh(msgspec.Struct, frozen=True):
    """A project, who watches it ("serve 4711", "" if nobody), and how long changes of its files
    take to be found, in ms (the median of the last ones).
    """

    project: Listed
    watcher: str = ""
    lag_ms: float | None = None


class Living(msgspec.Struct, frozen=True):
    """A living process, of this machine or of another on the same Redis. Times in wall seconds."""

    name: str
    started: float
    this: bool
    hit_rate: float
    total_operations: int
    l1_bytes: int


class Happened(msgspec.Struct, frozen=True):
    """An event in a process. `at` in wall seconds; `times`: how many there were that differ in
    nothing but their key, of which this is the last.
    """

    at: float
    process: str
    event: str
    detail: dict[str, object]
    times: int = 1


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One moment of this process. `stats`, `tiers`, `savings` and `processes` have the fields of
    GET /stats/cache, `health` those of GET /health/cache; `steps` is the newest of the history.
    """

    at: float
    version: str
    uptime_s: float
    health: Health
    tiers: Tiers
    stats: dict[str, object]
    latency: Latencies
    savings: Savings
    steps: dict[str, float]
    memory: Memory
    projects: list[Fresh]
    processes: list[Living]
    findings: list[Finding]
    events: list[Happened]


class Projects(msgspec.Struct, frozen=True):
    """The projects as they were last looked at, which costs a look at each of their files."""

    listed: list[Listed] = []
    took_s: float = 0.0
    at: float = float("-inf")


async def look(app: App, projects: Projects, steps: Mapping[str, float]) -> Sample:
    """The moment. `steps` are the newest of the history."""
    health, did = await app.status.health(), app.status.snapshot()
    processes = await app.processes()
    told = [one for one, _ in processes]
    memory = memory_of(did, app.told().get("memory"))
    limits = Limits(memory.used, memory.limit, memory.source, memory.rss or 0)
    return Sample(
        at=app.clock.wall(),
        version=version("querycache"),
        uptime_s=did.uptime_s,
        health=health,
        tiers=app.status.shaped([did], health),
        stats=totals([did]),
        latency=latencies(list(did.kinds.values())),
        savings=savings([did], app.config.embedder.price),
        steps=dict(steps),
        memory=memory,
        projects=[_freshness(one, told) for one in projects.listed],
        processes=[_living(*one, this=app.registry.is_me(one[0])) for one in processes],
        findings=findings(
            health,
            limits if memory.level else None,
            told,
            thresholds(app.config),
            app.registry.is_me,
        ),
        events=happened(told),
    )


async def look_at_projects(app: App) -> Projects:
    """Looks at each project's files."""
    began = app.clock.monotonic()
    listed = await app.list_projects(languages=False)
    now = app.clock.monotonic()
    return Projects(listed, now - began, now)


def memory_of(did: Snapshot, told: object) -> Memory:
    """What L1 holds, and what the process has and may have, as it published that."""
    known = _fields(told)
    rss, used, limit = (known.get(f"{name}_bytes") for name in ("rss", "used", "limit"))
    return Memory(
        did.l1_bytes,
        did.l1_max_bytes,
        rss=rss if isinstance(rss, int) else None,
        used=used if isinstance(used, int) else 0,
        limit=limit if isinstance(limit, int) else 0,
        source=str(known.get("source", "")),
        level=str(known.get("level", "")),
    )


def happened(processes: Sequence[Published]) -> list[Happened]:
    """The last notable events of all processes, newest first."""
    found = [
        one
        for told in processes
        for row in _list(told.document.get("events"))
        if (one := _event(called(told), _list(row)))
    ]
    kept: dict[tuple[object, ...], Happened] = {}
    for one in sorted(found, key=lambda one: -one.at):
        same = [f"{name}={value}" for name, value in one.detail.items() if name != "key"]
        alike = (one.process, one.event, *same, *_told_apart(one))
        last = kept.get(alike)
        times = last.times + 1 if last else 1
        kept[alike] = msgspec.structs.replace(last or one, times=times)
    return list(kept.values())[:EVENTS_SHOWN]


def _told_apart(one: Happened) -> tuple[object, ...]:
    """What is worth a line for each key: a file."""
    return (one.detail.get("key"),) if one.event == events.FileChanged.__name__ else ()


def _event(process: str, row: Sequence[object]) -> Happened | None:
    """One row as `EventRing.rows` tells it: its time, its type, its fields."""
    type_ = NOTABLE.get(str(row[1])) if len(row) > 1 else None
    if type_ is None or not isinstance(row[0], int | float):
        return None
    detail = dict(zip(type_.__struct_fields__, row[2:], strict=False))
    if type_ is events.Invalidated and not detail.get("source"):
        return None  # a read that found what was invalidated before
    return Happened(row[0], process, type_.__name__, detail)


def _living(told: Published, did: Snapshot, *, this: bool) -> Living:
    fields = {
        "name": called(told),
        "started": told.started,
        "this": this,
        "l1_bytes": did.l1_bytes,
    }
    return msgspec.convert(totals([did]) | fields, Living)


def _freshness(project: Listed, processes: Sequence[Published]) -> Fresh:
    for process in processes:
        for row in map(_fields, _list(process.document.get("watching"))):
            if row.get("project") == project.name and row.get("watching") is True:
                lag = row.get("lag_ms_p50")
                lag_ms = float(lag) if isinstance(lag, int | float) else None
                return Fresh(project, called(process), lag_ms)
    return Fresh(project)


def _fields(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []
