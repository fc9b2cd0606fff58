"""Show how the cache is: its health, and what it did, per tier and per kind."""

from querycache.cache.examining import Checks
from querycache.usecases.show_status.counts import (
    KindCounts,
    L1Stats,
    L2Stats,
    Latencies,
    Quantiles,
    Snapshot,
    Tiers,
    TierStats,
    latencies,
    quantiles,
    reasons,
    together,
    totals,
)
from querycache.usecases.show_status.health import Health, Pending, Status
from querycache.usecases.show_status.savings import Savings, savings
from querycache.usecases.show_status.show import ShowStatus

__all__ = [
    "Checks",
    "Health",
    "KindCounts",
    "L1Stats",
    "L2Stats",
    "Latencies",
    "Pending",
    "Quantiles",
    "Savings",
    "ShowStatus",
    "Snapshot",
    "Status",
    "TierStats",
    "Tiers",
    "latencies",
    "quantiles",
    "reasons",
    "savings",
    "together",
    "totals",
]
