"""Show how the cache is: its health, and what it did, per tier and per kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from querycache.cache.two_tier import TwoTier
from querycache.clock import Clock
from querycache.ports.tiers import L2Info

Status = Literal["healthy", "degraded", "unhealthy", "disconnected"]


_NO_MEMORY: dict[str, int | str] = {
    "used_memory": 0,
    "used_memory_human": "0B",
    "used_memory_peak": 0,
    "used_memory_peak_human": "0B",
}
_NO_POOL = {
    "created_connections": 0,
    "available_connections": 0,
    "in_use_connections": 0,
    "max_connections": 0,
}


class Health(msgspec.Struct, frozen=True):
    """How the cache is now. `redis_ping_time` and `l2_ping_time` in ms, None without one.

    degraded: something does not work, and callers go on without it. disconnected: Redis is
    configured and can't be reached. `memory_usage` and `connection_pool_stats` are those of Redis:
    zeros without it.
    """

    status: Status
    redis_connected: bool
    redis_ping_time: float | None
    memory_usage: dict[str, int | str]
    connection_pool_stats: dict[str, int]
    last_error: str | None
    check_timestamp: float
    l2_backend: str
    l2_connected: bool
    l2_ping_time: float | None
    l2_entries: int | None
    l2_bytes: int | None
    l2_max_bytes: int | None
    problems: tuple[str, ...]


class KindCounts(msgspec.Struct):
    """What one process did with one kind. `saved_s`: seconds that loads of its hits once took."""

    l1_hits: int = 0
    l2_hits: int = 0
    stale_hits: int = 0
    misses: int = 0
    loads: int = 0
    sets: int = 0
    errors: int = 0
    saved_s: float = 0.0


class Snapshot(msgspec.Struct, frozen=True):
    """What one process did, as it publishes it."""

    kinds: dict[str, KindCounts]
    deletes: int = 0
    uptime_s: float = 0.0
    l1_size: int = 0
    l1_max_size: int = 0
    l1_bytes: int = 0
    l1_max_bytes: int = 0
    l1_evictions: int = 0
    l1_policy: str = ""
    l2_failures: int = 0


class TierStats(msgspec.Struct, frozen=True):
    """One tier. Without the tier: zeros, and `enabled` False. Rates are shares of its reads."""

    enabled: bool
    hit_count: int
    miss_count: int
    error_count: int

    @property
    def total_operations(self) -> int:
        return self.hit_count + self.miss_count

    @property
    def hit_rate(self) -> float:
        return self.hit_count / self.total_operations if self.total_operations else 0.0

    @property
    def miss_rate(self) -> float:
        return self.miss_count / self.total_operations if self.total_operations else 0.0


class ShowStatus:
    """The use case."""

    def __init__(  # noqa: PLR0913 -- what is looked at
        self,
        core: TwoTier,
        clock: Clock,
        *,
        l1_enabled: bool,
        l2_enabled: bool,
        redis: bool,
        deletes: Callable[[], int],
        failures: Callable[[], int],
    ) -> None:
        """`redis` says whether L2 is Redis; `failures` counts what L2 failed at so far."""
        self._core = core
        self._clock = clock
        self._l1_enabled = l1_enabled
        self._l2_enabled = l2_enabled
        self._redis = redis
        self._deletes = deletes
        self._failures = failures
        self._started = clock.monotonic()

    async def health(self) -> Health:
        """Looks now; never raises."""
        info = await self._core.l2.info()
        generations = self._core.generations
        problems: list[str] = []
        if self._l2_enabled and not info.connected:
            problems.append(f"L2 ({info.backend}) does not answer: {info.error}")
        if generations.bypass:
            problems.append("the invalidation channel is down: L1 is bypassed")
        if generations.deaf:
            problems.append("nobody tells what is no longer true: L1 entries live for 2 s")
        if self._core.writer.trouble:
            problems.append(f"L2 ({info.backend}) refused a write: {self._core.writer.trouble}")
        if generations.owed_keys or generations.owed_tags:
            owed = len(generations.owed_keys) + len(generations.owed_tags)
            problems.append(f"{owed} invalidations could not be told to other processes yet")
        return Health(
            status=self._status(info, problems),
            redis_connected=self._redis and info.connected,
            redis_ping_time=info.ping_ms if self._redis else None,
            memory_usage=dict(_NO_MEMORY),
            connection_pool_stats=dict(_NO_POOL),
            last_error=info.error or (problems[0] if problems else None),
            check_timestamp=self._clock.wall(),
            l2_backend=info.backend,
            l2_connected=info.connected,
            l2_ping_time=info.ping_ms,
            l2_entries=info.entries,
            l2_bytes=info.bytes,
            l2_max_bytes=info.max_bytes,
            problems=tuple(problems),
        )

    def snapshot(self) -> Snapshot:
        """What this process did."""
        info = self._core.l1.info()
        return Snapshot(
            kinds={
                str(kind): KindCounts(
                    l1_hits=tally.l1_hits,
                    l2_hits=tally.l2_hits,
                    stale_hits=tally.stale_hits,
                    misses=tally.misses,
                    loads=tally.loads,
                    sets=tally.sets,
                    errors=tally.errors,
                    saved_s=tally.saved_s,
                )
                for kind, tally in self._core.tallies.items()
            },
            deletes=self._deletes(),
            uptime_s=round(self._clock.monotonic() - self._started, 1),
            l1_size=info.size,
            l1_max_size=info.max_size,
            l1_bytes=info.bytes,
            l1_max_bytes=info.max_bytes,
            l1_evictions=info.evictions,
            l1_policy=info.policy,
            l2_failures=self._failures(),
        )

    def tiers(self, snapshots: Sequence[Snapshot]) -> tuple[TierStats, TierStats]:
        """L1 and L2 over processes: L2 is asked for what L1 misses."""
        counts = [kind for snapshot in snapshots for kind in snapshot.kinds.values()]
        l1_hits = sum(count.l1_hits for count in counts)
        l2_hits = sum(count.l2_hits for count in counts)
        misses = sum(count.misses for count in counts)
        errors = sum(snapshot.l2_failures for snapshot in snapshots)
        l1 = TierStats(self._l1_enabled, l1_hits, (l2_hits + misses) * self._l1_enabled, 0)
        l2 = TierStats(self._l2_enabled, l2_hits, misses * self._l2_enabled, errors)
        return l1, l2

    def _status(self, info: L2Info, problems: Sequence[str]) -> Status:
        if not problems:
            return "healthy"
        if self._l2_enabled and not info.connected:
            if self._redis:
                return "disconnected"
            return "degraded" if self._l1_enabled else "unhealthy"
        return "degraded"


def totals(snapshots: Sequence[Snapshot]) -> dict[str, object]:
    """Sums over processes: the fields of a statistics answer, and the same for each kind."""
    kinds = sorted({kind for snapshot in snapshots for kind in snapshot.kinds})
    by_kind = {
        kind: _sums([snapshot.kinds.get(kind, KindCounts()) for snapshot in snapshots])
        for kind in kinds
    }
    every = [count for snapshot in snapshots for count in snapshot.kinds.values()]
    deletes = sum(snapshot.deletes for snapshot in snapshots)
    whole = _sums(every)
    operations = sum(count.l1_hits + count.l2_hits + count.misses + count.sets for count in every)
    rate = sum(
        sum(c.l1_hits + c.l2_hits + c.misses + c.sets for c in s.kinds.values()) / s.uptime_s
        for s in snapshots
        if s.uptime_s > 0.0
    )
    return whole | {
        "delete_count": deletes,
        "total_operations": operations + deletes,
        "operations_per_second": round(rate, 3),
        "by_kind": by_kind,
    }


def _sums(counts: Sequence[KindCounts]) -> dict[str, object]:
    hits = sum(count.l1_hits + count.l2_hits for count in counts)
    misses = sum(count.misses for count in counts)
    reads = hits + misses
    return {
        "hit_count": hits,
        "miss_count": misses,
        "set_count": sum(count.sets for count in counts),
        "error_count": sum(count.errors for count in counts),
        "hit_rate": hits / reads if reads else 0.0,
        "miss_rate": misses / reads if reads else 0.0,
        "l1_hits": sum(count.l1_hits for count in counts),
        "l2_hits": sum(count.l2_hits for count in counts),
        "stale_hits": sum(count.stale_hits for count in counts),
        "loads": sum(count.loads for count in counts),
        "saved_s": round(sum(count.saved_s for count in counts), 3),
    }
