"""What figures of processes say: latency, hit rate, failures, memory, leaks, evictions. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from querycache.ports.findings import Finding
from querycache.ports.latency import Latency
from querycache.usecases.diagnose.figures import (
    Counts,
    KindFigures,
    Memory,
    Process,
    Thresholds,
)
from querycache.usecases.diagnose.names import finding
from querycache.values import Kind

_MB = 1024 * 1024
_TIMED = 20  # fewer say nothing of a 95th percentile
_NAMED = 3
_BY_CONTENT = (Kind.EMBEDDING, Kind.FILE)
_WHY = {
    "absent": "querycache warm PROJECT  # asks beforehand what is asked most",
    "expired": "raise the kind's TTL (SEARCH_CACHE_TTL=3600, ...), if what it holds lasts longer",
    "invalidated": "querycache explain KEY  # says what invalidates it; see what edits the files",
    "unreadable": "querycache stats  # and look for crypto. findings",
}


def by_kind(counts: Iterable[Counts]) -> dict[str, list[KindFigures]]:
    """The figures of each kind, of all processes."""
    found: dict[str, list[KindFigures]] = {}
    for one in counts:
        for kind, figures in one.kinds.items():
            found.setdefault(kind, []).append(figures)
    return found


def slow_reads(counts: Sequence[Counts], thresholds: Thresholds) -> list[Finding]:
    """Tiers whose reads are slow: one in twenty takes longer than is allowed."""
    slow: list[str] = []
    for tier in ("l1", "l2"):
        each: list[Latency] = [
            getattr(figures, tier) for several in by_kind(counts).values() for figures in several
        ]
        whole = Latency.together(each)
        high = whole.quantile(0.95)
        if high is not None and whole.count >= _TIMED and high * 1000 > thresholds.latency_ms:
            slow.append(f"{tier.upper()} reads: {percentiles(whole)}")
    if not slow:
        return []
    told = f"{'; '.join(slow)}; more than {thresholds.latency_ms:g} ms is slow"
    return [finding("latency.high", told, "querycache stats --watch  # and: querycache bench")]


def percentiles(latency: Latency) -> str:
    """Its p50, p95 and p99 in ms."""
    told = ((name, latency.quantile(share)) for name, share in _SHARES)
    return " / ".join(f"{name} {(value or 0.0) * 1000:.3g}" for name, value in told) + " ms"


_SHARES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


def hit_rate(counts: Sequence[Counts], thresholds: Thresholds) -> list[Finding]:
    """Whether too many reads miss, in which kinds, and why.

    What is addressed by content misses when it is first seen, which no cache can help: of
    embeddings and parses, misses of what was never stored don't count. Neither do those of a
    tier that was down or off, which are told elsewhere.
    """
    hits = reads = 0
    reasons: Counter[str] = Counter()
    told: list[tuple[float, str]] = []
    for kind, several in by_kind(counts).items():
        why = Counter[str]()
        for figures in several:
            why.update(figures.reasons)
        first = why.pop("absent", 0) if kind in _BY_CONTENT else 0
        first += why.pop("l2_down", 0) + why.pop("disabled", 0)
        had = sum(figures.hits for figures in several)
        asked = had + max(0, sum(figures.misses for figures in several) - first)
        if asked:
            hits, reads = hits + had, reads + asked
            reasons.update(why)
            told.append((had / asked, f"{kind} {had / asked:.0%} of {asked:,}{_because(why)}"))
    if reads < thresholds.reads or hits / reads >= thresholds.hit_rate:
        return []
    evidence = f"{hits / reads:.1%} of {reads:,} reads hit, fewer than {thresholds.hit_rate:.0%}: "
    top = max(reasons, key=lambda why: reasons[why], default="absent")
    remedy = _WHY.get(top, _WHY["absent"])
    if top == "evicted":
        remedy = f"{_larger(counts)}  # and look at evictions.high"
    return [finding("hit_rate.low", evidence + "; ".join(row for _, row in sorted(told)), remedy)]


def _because(why: Counter[str]) -> str:
    top = [f"{count:,} {reason}" for reason, count in why.most_common(_NAMED) if count]
    return f" (misses: {', '.join(top)})" if top else ""


def failures(counts: Sequence[Counts], thresholds: Thresholds) -> list[Finding]:
    """Whether too many operations fail."""
    every = [figures for several in by_kind(counts).values() for figures in several]
    failed = sum(one.errors for one in every)
    done = sum(one.hits + one.misses + one.sets for one in every)
    if done < thresholds.operations or failed / done <= thresholds.error_rate:
        return []
    tier = sum(one.l2_failures for one in counts)
    return [
        finding(
            "errors.high",
            f"{failed:,} of {done:,} operations failed ({failed / done:.1%}), more than"
            f" {thresholds.error_rate:.0%}; {tier:,} were failures of the shared tier",
            "querycache health  # what fails now; the log says each: CACHE_LOG_LEVEL=INFO",
        )
    ]


def pressure(who: str, memory: Memory, thresholds: Thresholds) -> list[Finding]:
    """Whether the memory that `who` may have is nearly used. The machine's own is short only when
    it is critical: to fill most of it is what it is for.
    """
    machine = memory.source == "system"
    mark = thresholds.memory_critical if machine else thresholds.memory_warning
    if not memory.limit or memory.share < mark:
        return []
    critical = memory.share >= thresholds.memory_critical
    return [
        finding(
            "memory.pressure",
            f"{who}: {memory.used / _MB:,.0f} of {memory.limit / _MB:,.0f} MB are used"
            f" ({memory.share:.0%}; limit: {memory.source or 'unknown'}); the process itself has"
            f" {memory.rss / _MB:,.0f} MB",
            "export MEMORY_CACHE_MAX_MEMORY_MB=128  # or give the process more memory; who has"
            " it: ps -eo pid,rss,comm --sort=-rss | head",
            "error" if critical else "warning",
        )
    ]


def leaks(processes: Sequence[Process]) -> list[Finding]:
    """Processes that grow and do not stop, as their own watch over their memory finds."""
    return [
        finding("memory.leak", f"{one.who}: {leak.evidence}", leak.remedy, leak.severity)
        for one in processes
        for leak in one.leaks
    ]


def evicted(counts: Sequence[Counts], thresholds: Thresholds) -> list[Finding]:
    """Whether many reads miss what a tier gave up for room."""
    every = [figures for several in by_kind(counts).values() for figures in several]
    gone = sum(one.reasons.get("evicted", 0) for one in every)
    reads = sum(one.hits + one.misses for one in every)
    if reads < thresholds.reads or gone / reads < (1.0 - thresholds.hit_rate) / 2:
        return []
    evictions = sum(one.l1_evictions for one in counts)
    held = sum(one.l1_size for one in counts)
    return [
        finding(
            "evictions.high",
            f"{gone:,} of {reads:,} reads ({gone / reads:.0%}) missed what had been given up for"
            f" room; L1 evicted {evictions:,} entries, and holds {held:,}",
            _larger(counts),
        )
    ]


def _larger(counts: Sequence[Counts]) -> str:
    """The command that doubles the bounds of the largest L1."""
    entries = 2 * max((one.l1_max_size for one in counts), default=0)
    size = 2 * max((one.l1_max_bytes for one in counts), default=0) // _MB
    if not (entries and size):  # not told
        return "raise MEMORY_CACHE_MAX_SIZE and MEMORY_CACHE_MAX_MEMORY_MB"
    return f"export MEMORY_CACHE_MAX_SIZE={entries} MEMORY_CACHE_MAX_MEMORY_MB={size}"
