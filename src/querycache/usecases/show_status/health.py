"""How the cache is now, and which word says it."""

from __future__ import annotations

from typing import Literal

import msgspec

from querycache.cache.examining import Checks
from querycache.ports.tiers import L2Info, Pool

Status = Literal["healthy", "degraded", "unhealthy", "disconnected"]

_STEP = 1024


class Pending(msgspec.Struct, frozen=True):
    """What L2 has yet to be told: entries whose write was put off (`dirty`), and what it could not
    be told while it was down (`recovery`).
    """

    dirty: int = 0
    recovery: int = 0


class Health(msgspec.Struct, frozen=True):
    """How the cache is now. `redis_ping_time` and `l2_ping_time` in ms, None without one.

    degraded: something does not work, and callers go on without it. disconnected: Redis is the
    only tier in use, and can't be reached. unhealthy: no tier in use works. `memory_usage` and
    `connection_pool_stats` are those of Redis: zeros without it. `invalidation_lag_ms` is how long
    an invalidation took to arrive from the server when that was last measured; None where nothing
    measures it.
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
    l2_where: str = ""
    invalidation_lag_ms: float | None = None
    pending: Pending = Pending()
    coherency: Checks = Checks()


def status_of(info: L2Info, *, redis: bool, l1: bool, l2: bool, problems: bool) -> Status:
    """The word for it. `l1` and `l2`: whether the tiers are in use."""
    if not problems:
        return "healthy"
    if l2 and not l1 and not info.connected:
        return "disconnected" if redis else "unhealthy"
    return "degraded"


def memory_usage(info: L2Info) -> dict[str, int | str]:
    """The memory of the server, in bytes and as Redis says it; zeros without one."""
    used, peak = info.memory_bytes or 0, info.memory_peak_bytes or 0
    return {
        "used_memory": used,
        "used_memory_human": _human(used),
        "used_memory_peak": peak,
        "used_memory_peak_human": _human(peak),
    }


def pool_stats(info: L2Info, most: int) -> dict[str, int]:
    """The connections to the server; zeros without one. `most` as the settings allow; where they
    say nothing, as the pool has it.
    """
    pool = info.pool or Pool()
    return {
        "created_connections": pool.created,
        "available_connections": pool.available,
        "in_use_connections": pool.in_use,
        "max_connections": most or pool.most,
    }


def _human(count: float) -> str:
    """Bytes as Redis says them: 512B, 1.50K, 2.00M."""
    if count < _STEP:
        return f"{count:.0f}B"
    for unit in "KMG":
        count /= _STEP
        if count < _STEP:
            return f"{count:.2f}{unit}"
    return f"{count / _STEP:.2f}T"
