"""The figures that are judged: what the living processes told, and what was looked at beside.

Processes of other versions tell less, so every field of theirs has a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from querycache.ports.findings import Finding
from querycache.ports.latency import Latency


class Thresholds(msgspec.Struct, frozen=True):
    """The one table of thresholds. Rates and shares from 0 to 1; a hit rate is judged after
    `reads`, an error rate after `operations`.
    """

    hit_rate: float = 0.6
    reads: int = 100
    latency_ms: float = 50.0
    error_rate: float = 0.05
    operations: int = 100
    lag_ms: float = 1000.0
    memory_warning: float = 0.8
    memory_critical: float = 0.9
    clock_s: float = 5.0
    disk_bytes: int = 256 * 1024 * 1024
    denials: int = 5


class KindFigures(msgspec.Struct, frozen=True):
    """What one process did with one kind; `reasons` are its misses by reason."""

    l1_hits: int = 0
    l2_hits: int = 0
    misses: int = 0
    loads: int = 0
    sets: int = 0
    errors: int = 0
    reasons: Mapping[str, int] = {}
    l1: Latency = msgspec.field(default_factory=Latency)
    l2: Latency = msgspec.field(default_factory=Latency)

    @property
    def hits(self) -> int:
        return self.l1_hits + self.l2_hits


class Counts(msgspec.Struct, frozen=True):
    """What one process counted."""

    kinds: Mapping[str, KindFigures] = {}
    uptime_s: float = 0.0
    l1_size: int = 0
    l1_max_size: int = 0
    l1_max_bytes: int = 0
    l1_evictions: int = 0
    l2_failures: int = 0


class Memory(msgspec.Struct, frozen=True):
    """The memory that a process may have, and what it has. In bytes."""

    used: int = 0
    limit: int = 0
    source: str = ""
    rss: int = 0

    @property
    def share(self) -> float:
        """The share of the limit that is used; 0 where nothing limits."""
        return self.used / self.limit if self.limit > 0 else 0.0


class Watching(msgspec.Struct, frozen=True):
    """A root that a process watches, or is to watch once another process stops: as it was told.
    `project` is "" for a root that is none; `lag_ms_p50` as the median of the last changes, from
    a change until nothing derived from the file is served.
    """

    project: str = ""
    root: str = ""
    alive: bool = True
    watching: bool = False
    error: str = ""
    lag_ms_p50: float | None = None


class Process(msgspec.Struct, frozen=True):
    """A living process.

    Attributes:
        who: Its door and its number: "serve 1234".
        stopped: It exists and does not run (SIGSTOP, a debugger).
        leaks: What its own watch over its memory found.
        damaged: Stored entries that did not open for it, by reason.
        lag_ms: How long an invalidation took to reach it, when that was last measured.
    """

    who: str
    counts: Counts = Counts()
    stopped: bool = False
    memory: Memory | None = None
    leaks: tuple[Finding, ...] = ()
    watching: tuple[Watching, ...] = ()
    damaged: Mapping[str, int] = {}
    lag_ms: float | None = None


class Store(msgspec.Struct, frozen=True):
    """The shared tier as it was asked. `error` says why it can't be used; `lag_ms` is how long an
    invalidation took to reach whoever asked.
    """

    backend: str
    where: str = ""
    connected: bool = True
    ping_ms: float | None = None
    entries: int | None = None
    error: str = ""
    lag_ms: float | None = None


class Compared(msgspec.Struct, frozen=True):
    """What the living processes found when they compared L1 with L2. `differences`: how many
    differed in which way.
    """

    processes: int = 0
    silent: tuple[str, ...] = ()
    entries: int = 0
    keys: tuple[str, ...] = ()
    differences: Mapping[str, int] = {}


class Indexed(msgspec.Struct, frozen=True):
    """A project. `stale_files` differ from its index; `held`: some process has taken it upon
    itself to keep the index up to date.
    """

    name: str
    root: str = ""
    stale_files: int = 0
    held: bool = False


class Encryption(msgspec.Struct, frozen=True):
    """Which kinds are sealed, and what is wrong with the keys."""

    kinds: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


class Denied(msgspec.Struct, frozen=True):
    """Access that was refused lately: how often, and the last line about it of the audit log,
    which is the file `log`.
    """

    count: int = 0
    window_s: float = 0.0
    last: str = ""
    log: str = "audit.jsonl"


class Settings(msgspec.Struct, frozen=True):
    """The settings as they would be read now."""

    problems: tuple[str, ...] = ()
    remedy: str = ""
    unknown: tuple[str, ...] = ()


class Machine(msgspec.Struct, frozen=True):
    """This machine, as this process finds it. `home_error`: why no file can be made in `home`;
    `free_bytes`: None where its disk can't be asked.
    """

    memory: Memory = Memory()
    home: str = ""
    home_error: str = ""
    free_bytes: int | None = None
    total_bytes: int = 0


class ConfFile(msgspec.Struct, frozen=True):
    """A redis.conf; `text` is None where there is none to look at."""

    path: str = ""
    text: str | None = None
    error: str = ""


class Vitals(msgspec.Struct, frozen=True):
    """What a monitor looks at: cheap, from one process's own figures.

    Attributes:
        redis: Whether L2 is Redis, and whether it answers.
        ping_ms: How long L2 took to answer; None where it was not asked.
        lag_ms: See `Process.lag_ms`.
        mismatches: How many entries differed at the last comparison of the tiers.
    """

    counts: Counts = Counts()
    redis: Literal["none", "up", "down"] = "none"
    where: str = ""
    words: str = ""
    ping_ms: float | None = None
    memory: Memory | None = None
    lag_ms: float | None = None
    mismatches: int = 0
