"""What is answered over HTTP, where that is no use case's own result.

Encoding turns NaN and infinities into null, so every answer is JSON proper.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from querycache.usecases.explain_key import Explained
from querycache.usecases.list_keys import Pattern
from querycache.usecases.list_projects import Listed
from querycache.usecases.show_status import Latencies, Savings, Snapshot, Tiers, savings, totals
from querycache.values import Kind

if TYPE_CHECKING:
    from querycache.observe.registry import Published


class Error(msgspec.Struct, frozen=True):
    """What went wrong, and what to do about it."""

    name: str
    message: str
    remedy: str


class Failed(msgspec.Struct, frozen=True):
    """Every answer that is none."""

    error: Error


class Alive(msgspec.Struct, frozen=True):
    """The process answers."""

    status: str = "ok"


class Ready(msgspec.Struct, frozen=True):
    """Searches can be answered; `projects` are indexed."""

    ready: bool
    projects: int


class Projects(msgspec.Struct, frozen=True):
    """The indexed projects."""

    projects: list[Listed]


class Patterns(msgspec.Struct, frozen=True):
    """What the shared tier holds, most entries first."""

    patterns: list[Pattern]


class Forgotten(msgspec.Struct, frozen=True):
    """A project that is gone; `existed` is true, since 404 says that there was none."""

    project: str
    existed: bool


class Counts(msgspec.Struct, frozen=True):
    """What was done with entries. Rates are shares of the reads, `saved_s` the seconds that loads
    of the hits once took. `latency` is in ms; `reasons` counts the misses by reason.
    """

    hit_count: int
    miss_count: int
    set_count: int
    error_count: int
    hit_rate: float
    miss_rate: float
    l1_hits: int
    l2_hits: int
    stale_hits: int
    loads: int
    saved_s: float
    latency: Latencies
    reasons: dict[str, int]


class Process(msgspec.Struct, frozen=True):
    """A living process. Times in wall seconds; `host` names another machine on the same Redis, ""
    stands for this one.
    """

    pid: int
    door: str
    started: float
    published_at: float
    this: bool
    hit_rate: float
    total_operations: int
    l1_size: int
    l1_bytes: int
    host: str = ""


class Stats(Counts, frozen=True, kw_only=True):
    """What this process did since `last_reset` (wall seconds), and which others live beside it."""

    delete_count: int
    total_operations: int
    operations_per_second: float
    last_reset: float
    uptime_s: float
    tiers: Tiers
    savings: Savings
    kinds: dict[str, Counts]
    processes: list[Process]


class Metrics(msgspec.Struct, frozen=True):
    """The fields of the guide's dashboard. `timestamp` in wall seconds, `redis_ping_time` in ms,
    `l1_memory_usage` in MB.
    """

    timestamp: float
    hit_rate: float
    miss_rate: float
    total_operations: int
    redis_connected: bool
    redis_ping_time: float | None
    l1_memory_usage: float
    l1_hit_rate: float
    l2_hit_rate: float


class Tag(msgspec.Struct, frozen=True):
    """A counter that an entry depends on; if it moved since the entry's birth, the entry is
    invalid.
    """

    tag: str
    at_birth: int
    now: int | None
    moved: bool


class EntryIn(msgspec.Struct, frozen=True):
    """An entry in one tier. Ages and lives in seconds; negative lives are over."""

    verdict: str
    bytes: int
    age_s: float
    fresh_s: float
    usable_s: float
    load_s: float
    tags: list[Tag]


class Happened(msgspec.Struct, frozen=True):
    """An event of an entry or of its tags, in wall seconds."""

    at: float
    process: str
    event: str
    detail: dict[str, str | int | float | bool | None]


class Explanation(msgspec.Struct, frozen=True):
    """Where an entry is, its stamps, and its last events, oldest first. `trouble` says why the
    shared tier could not tell.
    """

    key: str
    kind: Kind
    l1: EntryIn | None
    l2: EntryIn | None
    trouble: str
    events: list[Happened]


def counted(snapshot: Snapshot) -> dict[str, object]:
    """The counts of one process, with those of each kind under `kinds`."""
    return _with_kinds([snapshot])


def stats(
    snapshots: Sequence[Snapshot],
    tiers: Tiers,
    processes: Sequence[Process],
    *,
    price: float,
    since: float,
    uptime_s: float,
) -> Stats:
    """What the processes of `snapshots` did `since` (wall seconds); `price` is that of a million
    tokens.
    """
    fields = {
        **_with_kinds(snapshots),
        "last_reset": since,
        "uptime_s": uptime_s,
        "tiers": tiers,
        "savings": savings(snapshots, price),
        "processes": list(processes),
    }
    return msgspec.convert(fields, Stats)


def process(told: Published, did: Snapshot, *, this: bool) -> Process:
    """A living process, and what it did; `this` says whether it is the one that answers."""
    fields = {
        "pid": told.pid,
        "door": told.door,
        "started": told.started,
        "published_at": told.published_at,
        "this": this,
        "l1_size": did.l1_size,
        "l1_bytes": did.l1_bytes,
        "host": told.host,
    }
    return msgspec.convert(totals([did]) | fields, Process)


def _with_kinds(snapshots: Sequence[Snapshot]) -> dict[str, object]:
    whole = totals(snapshots)
    return {**whole, "kinds": whole["by_kind"]}


def explanation(explained: Explained) -> Explanation:
    """An explanation as it is sent."""
    examined = explained.entry
    sides = [
        found
        and EntryIn(
            verdict=found.verdict,
            bytes=found.bytes,
            age_s=found.age_s,
            fresh_s=found.fresh_s,
            usable_s=found.usable_s,
            load_s=found.load_s,
            tags=[
                Tag(
                    tag=tag.tag,
                    at_birth=tag.at_birth.number,
                    now=tag.now.number if tag.now else None,
                    moved=tag.now != tag.at_birth,
                )
                for tag in found.tags
            ],
        )
        for found in (examined.l1, examined.l2)
    ]
    return Explanation(
        key=explained.key,
        kind=explained.kind,
        l1=sides[0],
        l2=sides[1],
        trouble=examined.trouble,
        events=[
            Happened(at, process, type(event).__name__, msgspec.structs.asdict(event))
            for at, process, event in explained.events
        ],
    )
