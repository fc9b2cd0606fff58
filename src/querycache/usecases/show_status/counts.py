"""What processes did: counts of each, and sums over them, per tier and per kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from querycache.cache.examining import Checks
from querycache.ports.latency import Latency
from querycache.ports.spending import Spending
from querycache.usecases.show_status.health import Health, Pending

_MB = 1024 * 1024


class KindCounts(msgspec.Struct):
    """What one process did with one kind. `saved_s`: seconds that loads of its hits once took;
    `reasons`: its misses by reason; `l1`, `l2`, `load`: how long each takes.
    """

    l1_hits: int = 0
    l2_hits: int = 0
    stale_hits: int = 0
    misses: int = 0
    loads: int = 0
    sets: int = 0
    errors: int = 0
    saved_s: float = 0.0
    reasons: dict[str, int] = {}
    l1: Latency = msgspec.field(default_factory=Latency)
    l2: Latency = msgspec.field(default_factory=Latency)
    load: Latency = msgspec.field(default_factory=Latency)


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
    coherency: Checks = Checks()
    pending: Pending = Pending()
    spending: Spending = msgspec.field(default_factory=Spending)


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


class Quantiles(msgspec.Struct, frozen=True):
    """How long something takes, in ms, as its histogram tells; None without any. `count`: how many
    were timed.
    """

    count: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


class Latencies(msgspec.Struct, frozen=True):
    """Of a read call of each tier, and of a load. `l1` is a sample of what hits cost."""

    l1: Quantiles
    l2: Quantiles
    load: Quantiles


class L1Stats(msgspec.Struct, frozen=True):
    """The tier in the memory of one process, or of several together."""

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
    """The shared tier, as it was asked. None where it can't tell.

    `lag_ms`: how long an invalidation took to arrive when that was last measured. `pending`: what
    it has yet to be told. `coherency`: what comparisons of L1 with it found.
    """

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
    lag_ms: float | None
    pending: Pending
    coherency: Checks


class Tiers(msgspec.Struct, frozen=True):
    """Both tiers."""

    l1: L1Stats
    l2: L2Stats


def l1_stats(tier: TierStats, memory: Snapshot) -> L1Stats:
    """L1's counts, and what it holds."""
    return L1Stats(
        enabled=tier.enabled,
        hits=tier.hit_count,
        misses=tier.miss_count,
        hit_rate=tier.hit_rate,
        miss_rate=tier.miss_rate,
        total_operations=tier.total_operations,
        size=memory.l1_size,
        max_size=memory.l1_max_size,
        memory_usage_bytes=memory.l1_bytes,
        memory_usage_mb=memory.l1_bytes / _MB,
        max_memory_mb=memory.l1_max_bytes / _MB,
        evictions=memory.l1_evictions,
        policy=memory.l1_policy,
    )


def l2_stats(tier: TierStats, health: Health, sums: Snapshot) -> L2Stats:
    """L2's counts, and how it is."""
    return L2Stats(
        enabled=tier.enabled,
        hits=tier.hit_count,
        misses=tier.miss_count,
        hit_rate=tier.hit_rate,
        miss_rate=tier.miss_rate,
        total_operations=tier.total_operations,
        errors=tier.error_count,
        backend=health.l2_backend,
        connected=health.l2_connected,
        entries=health.l2_entries,
        bytes=health.l2_bytes,
        max_bytes=health.l2_max_bytes,
        lag_ms=health.invalidation_lag_ms,
        pending=sums.pending,
        coherency=sums.coherency,
    )


def together(snapshots: Sequence[Snapshot]) -> Snapshot:
    """The memory, the failures, the checks and what waits, of all; without their kinds."""
    checks = [snapshot.coherency for snapshot in snapshots]
    last = max(checks, key=lambda check: check.last_at, default=Checks())
    return Snapshot(
        kinds={},
        l1_size=sum(snapshot.l1_size for snapshot in snapshots),
        l1_max_size=sum(snapshot.l1_max_size for snapshot in snapshots),
        l1_bytes=sum(snapshot.l1_bytes for snapshot in snapshots),
        l1_max_bytes=sum(snapshot.l1_max_bytes for snapshot in snapshots),
        l1_evictions=sum(snapshot.l1_evictions for snapshot in snapshots),
        l1_policy=", ".join(dict.fromkeys(snapshot.l1_policy for snapshot in snapshots)),
        l2_failures=sum(snapshot.l2_failures for snapshot in snapshots),
        coherency=msgspec.structs.replace(
            last,
            checks=sum(check.checks for check in checks),
            compared=sum(check.compared for check in checks),
            mismatches=sum(check.mismatches for check in checks),
        ),
        pending=Pending(
            dirty=sum(snapshot.pending.dirty for snapshot in snapshots),
            recovery=sum(snapshot.pending.recovery for snapshot in snapshots),
        ),
    )


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
        "latency": msgspec.to_builtins(latencies(counts)),
        "reasons": reasons(counts),
    }


def latencies(counts: Sequence[KindCounts]) -> Latencies:
    """How long reads of each tier and loads take."""
    return Latencies(
        l1=quantiles(count.l1 for count in counts),
        l2=quantiles(count.l2 for count in counts),
        load=quantiles(count.load for count in counts),
    )


def quantiles(several: Iterable[Latency]) -> Quantiles:
    """The quantiles of several together."""
    whole = Latency.together(several)
    p50, p95, p99 = (_ms(whole.quantile(share)) for share in (0.5, 0.95, 0.99))
    return Quantiles(whole.count, p50, p95, p99)


def reasons(counts: Iterable[KindCounts]) -> dict[str, int]:
    """Misses by reason, the most frequent first."""
    sums: Counter[str] = Counter()
    for count in counts:
        sums.update(count.reasons)
    return dict(sums.most_common())


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 6)
