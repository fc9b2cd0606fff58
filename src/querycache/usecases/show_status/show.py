"""The use case: looks at the tiers and at what the process did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy as copy

from querycache.cache.examining import Checks
from querycache.cache.two_tier import TwoTier
from querycache.clock import Clock
from querycache.errors import TierError
from querycache.ports.spending import Spending
from querycache.ports.tiers import L2Info
from querycache.usecases.show_status.counts import (
    KindCounts,
    Snapshot,
    Tiers,
    TierStats,
    l1_stats,
    l2_stats,
    together,
)
from querycache.usecases.show_status.health import (
    Health,
    Pending,
    memory_usage,
    pool_stats,
    status_of,
)


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
        checks: Callable[[], Checks] = Checks,
        troubles: Callable[[], Sequence[str]] = tuple,
        most_connections: int = 0,
        spending: Callable[[], Spending] = Spending,
    ) -> None:
        """`redis` says whether L2 is Redis, to which there may be `most_connections`; `failures`
        counts what L2 failed at so far, `checks` the comparisons of the tiers; `troubles` are
        those of parts that the core does not know.
        """
        self._core = core
        self._clock = clock
        self._l1_enabled = l1_enabled
        self._l2_enabled = l2_enabled
        self._redis = redis
        self._deletes = deletes
        self._failures = failures
        self._checks = checks
        self._troubles = troubles
        self._spending = spending
        self._most_connections = most_connections if redis else 0
        self._started = clock.monotonic()

    async def health(self) -> Health:
        """Looks now; never raises."""
        try:
            info = await self._core.l2.info()
        except TierError as error:
            info = L2Info(self._core.l2.name, connected=False, error=str(error))
        problems = self._problems(info)
        return Health(
            status=status_of(
                info,
                redis=self._redis,
                l1=self._l1_enabled,
                l2=self._l2_enabled,
                problems=bool(problems),
            ),
            redis_connected=self._redis and info.connected,
            redis_ping_time=info.ping_ms if self._redis else None,
            memory_usage=memory_usage(info),
            connection_pool_stats=pool_stats(info, self._most_connections),
            last_error=info.error or (problems[0] if problems else None),
            check_timestamp=self._clock.wall(),
            l2_backend=info.backend,
            l2_connected=info.connected,
            l2_ping_time=info.ping_ms,
            l2_entries=info.entries,
            l2_bytes=info.bytes,
            l2_max_bytes=info.max_bytes,
            problems=problems,
            l2_where=info.where,
            invalidation_lag_ms=info.lag_ms,
            pending=self.pending(),
            coherency=self._checks(),
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
                    reasons=dict(tally.reasons),
                    l1=copy(tally.l1),
                    l2=copy(tally.l2),
                    load=copy(tally.load),
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
            coherency=self._checks(),
            pending=self.pending(),
            spending=self._spending(),
        )

    def pending(self) -> Pending:
        """What L2 has yet to be told."""
        core, generations = self._core, self._core.generations
        untold = generations.owed_keys | core.recovery.kept.items.keys()
        return Pending(
            dirty=len(core.write_back.queue), recovery=len(untold) + len(generations.owed_tags)
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

    def shaped(self, snapshots: Sequence[Snapshot], health: Health) -> Tiers:
        """The same with what the tiers hold and how they are."""
        (l1, l2), sums = self.tiers(snapshots), together(snapshots)
        return Tiers(l1_stats(l1, sums), l2_stats(l2, health, sums))

    def _problems(self, info: L2Info) -> tuple[str, ...]:
        generations = self._core.generations
        generations.catch_up()
        trouble = self._core.recovery.trouble or self._core.write_back.trouble
        problems: list[str] = []
        if self._l2_enabled and not info.connected:
            problems.append(f"L2 ({info.backend}) does not answer: {info.error}")
        if generations.bypass:
            problems.append("the invalidation channel is down: L1 is bypassed")
        if generations.deaf:
            problems.append("no invalidations are heard: L1 keeps entries for 2 s only")
        if trouble:
            problems.append(f"L2 ({info.backend}) refused a write: {trouble}")
        if generations.owing:
            owed = len(generations.owed_keys) + len(generations.owed_tags)
            problems.append(f"{owed} invalidations could not be told to other processes yet")
        return (*problems, *self._troubles())
