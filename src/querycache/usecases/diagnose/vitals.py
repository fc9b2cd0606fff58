"""The monitor's seven, from one process's own figures: Redis down, ping, hit rate, memory, error
rate, invalidation lag, coherency. Pure.
"""

from __future__ import annotations

from querycache.ports.findings import Finding
from querycache.usecases.diagnose import judge_consistency, judge_figures
from querycache.usecases.diagnose.figures import Process, Thresholds, Vitals
from querycache.usecases.diagnose.names import finding


def quick(vitals: Vitals, thresholds: Thresholds) -> list[Finding]:
    """What is wrong now. Of a Redis that is down its failures are no findings of their own."""
    counts = [vitals.counts]
    found: list[Finding] = []
    down = vitals.redis == "down"
    if down:
        remedy = (
            "docker compose -f docker-compose.cache.yml up -d redis-cache  # querycache doctor"
        )
        found.append(finding("redis.unreachable", f"{vitals.where}: {vitals.words}", remedy))
    elif vitals.ping_ms is not None and vitals.ping_ms > thresholds.latency_ms:
        told = f"{vitals.where}: PING takes {vitals.ping_ms:.1f} ms; more than"
        told += f" {thresholds.latency_ms:g} ms is slow"
        found.append(finding("latency.high", told, "querycache doctor  # measures it ten times"))
    found += judge_figures.hit_rate(counts, thresholds)
    if vitals.memory is not None:
        found += judge_figures.pressure("this process", vitals.memory, thresholds)
    if not down:
        found += judge_figures.failures(counts, thresholds)
        found += judge_consistency.lag([Process("this process", lag_ms=vitals.lag_ms)], thresholds)
    if vitals.mismatches:
        told = (
            f"the last comparison of the tiers found {vitals.mismatches:,} entries that differed"
        )
        found.append(finding("coherency.mismatch", told, "querycache coherency"))
    return found
