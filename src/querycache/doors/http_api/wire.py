"""What goes over HTTP: the questions, and those answers that are no use case's own result.

Encoding turns NaN and infinities into null, so every answer is JSON proper.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from querycache.ports.origins import Mode
from querycache.usecases.explain_key import Explained
from querycache.usecases.list_keys import Pattern
from querycache.usecases.list_projects import Listed
from querycache.usecases.show_status import Snapshot, TierStats, totals
from querycache.values import Kind

_MB = 1024 * 1024

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=10_000)]
Name = Annotated[str, msgspec.Meta(max_length=200)]
Path = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question. Fields that it does not have are refused."""


class NothingAsked(Asked, frozen=True):
    """A question without parameters."""


class SearchAsked(Asked, frozen=True):
    """A search. Without `project`: that of the served folder, else the only one."""

    query: Text
    project: Name = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10
    mode: Mode = "hybrid"
    language: Name = ""
    path: Annotated[str, msgspec.Meta(max_length=1000, description="A glob over paths.")] = ""


class IndexAsked(Asked, frozen=True):
    """A local folder to index; `force` reads files that look unchanged, too."""

    path: Path
    project: Name = ""
    force: bool = False


class WarmAsked(Asked, frozen=True):
    """A project to warm up: with `queries`, else with what was asked most."""

    project: Name = ""
    queries: Annotated[list[Text], msgspec.Meta(max_length=1000)] | None = None
    budget_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 30.0
    budget_mb: Annotated[float, msgspec.Meta(ge=0)] | None = None


class InvalidateAsked(Asked, frozen=True):
    """What to invalidate: exactly one of these."""

    file: Path | None = None
    project: Name | None = None
    tag: Name | None = None
    key: Path | None = None
    all: bool = False


class KeysAsked(Asked, frozen=True):
    """Which keys to count."""

    kind: Kind | None = None
    project: Name | None = None


class ExplainAsked(Asked, frozen=True):
    """A full name, or a caller's own key."""

    key: Path


class ForgetAsked(Asked, frozen=True):
    """A project to forget."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


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
    """A project that is gone; `existed` is False if there was none."""

    project: str
    existed: bool


class Counts(msgspec.Struct, frozen=True):
    """What was done with entries. Rates are shares of the reads, `saved_s` the seconds that loads
    of the hits once took.
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


class L1Stats(msgspec.Struct, frozen=True):
    """The tier in this process's memory."""

    enabled: bool
    hits: int
    misses: int
    hit_rate: float
    miss_rate: float
    total_operations: int
    size: int
    max_size: int
    memory_usage_bytes: int
    memory_usage_mb: float
    max_memory_mb: float
    evictions: int
    policy: str


class L2Stats(msgspec.Struct, frozen=True):
    """The shared tier, as this process asked it. None where it can't tell."""

    enabled: bool
    hits: int
    misses: int
    hit_rate: float
    miss_rate: float
    total_operations: int
    errors: int
    backend: str
    connected: bool
    entries: int | None
    bytes: int | None
    max_bytes: int | None


class Tiers(msgspec.Struct, frozen=True):
    """Both tiers."""

    l1: L1Stats
    l2: L2Stats


class Process(msgspec.Struct, frozen=True):
    """A living process of this machine. Times in wall seconds."""

    pid: int
    door: str
    started: float
    published_at: float
    this: bool
    hit_rate: float
    total_operations: int
    l1_size: int
    l1_bytes: int


class Stats(Counts, frozen=True, kw_only=True):
    """What this process did since `last_reset` (wall seconds), and which others live beside it."""

    delete_count: int
    total_operations: int
    operations_per_second: float
    last_reset: float
    uptime_s: float
    tiers: Tiers
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


def l1_stats(tier: TierStats, snapshot: Snapshot) -> L1Stats:
    """The block of L1."""
    return L1Stats(
        enabled=tier.enabled,
        hits=tier.hit_count,
        misses=tier.miss_count,
        hit_rate=tier.hit_rate,
        miss_rate=tier.miss_rate,
        total_operations=tier.total_operations,
        size=snapshot.l1_size,
        max_size=snapshot.l1_max_size,
        memory_usage_bytes=snapshot.l1_bytes,
        memory_usage_mb=snapshot.l1_bytes / _MB,
        max_memory_mb=snapshot.l1_max_bytes / _MB,
        evictions=snapshot.l1_evictions,
        policy=snapshot.l1_policy,
    )


def counted(snapshot: Snapshot) -> dict[str, object]:
    """The counts of one process, with those of each kind under `kinds`."""
    whole = totals([snapshot])
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
