"""Monitoring: the cache's health in the log of the process, under the guide's names.

Example:
    >>> import asyncio
    >>> from querycache import CacheHealthMonitor, get_cache_service
    >>> async def main():
    ...     thresholds = {"min_hit_rate": 0.6, "max_ping_time": 50, "max_memory_usage": 0.8}
    ...     monitor = CacheHealthMonitor(await get_cache_service(), thresholds)
    ...     return await monitor.check()
    >>> asyncio.run(main())
    []
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from querycache.assembly.alerting import thresholds
from querycache.doors.python.cache import CacheService
from querycache.errors import UsageError
from querycache.usecases.diagnose.figures import Vitals
from querycache.usecases.diagnose.vitals import quick

_NAMES = {
    "min_hit_rate": "hit_rate",
    "max_ping_time": "latency_ms",
    "max_memory_usage": "memory_warning",
    "max_error_rate": "error_rate",
    "max_invalidation_lag": "lag_ms",
}


class CacheHealthMonitor:
    """Looks at the health of the cache and writes it into the log: WARNING `Cache health alerts:
    ...`, or INFO `Cache health check passed`.

    Looked at are: Redis down, its ping, the hit rate (after 100 reads), memory, the error rate,
    the invalidation lag and coherency. `querycache serve` and `mcp` do so by themselves, and also
    tell a webhook or a command (CACHE_ALERT_WEBHOOK, CACHE_ALERT_COMMAND).
    """

    def __init__(
        self, cache_service: CacheService, alert_thresholds: Mapping[str, float] | None = None
    ) -> None:
        """`alert_thresholds` may hold min_hit_rate (0 to 1), max_ping_time (ms), max_memory_usage
        (share of the memory that the process may have), max_error_rate (0 to 1) and
        max_invalidation_lag (ms); what it does not is as the settings say. Raises `UsageError` for
        other names.
        """
        given = dict(alert_thresholds or {})
        unknown = given.keys() - _NAMES
        if unknown:
            raise UsageError(
                f"unknown thresholds: {', '.join(sorted(map(ascii, unknown)))}",
                remedy="there are: " + ", ".join(_NAMES),
            )
        self.cache_service = cache_service
        self.logger = logging.getLogger(__name__)
        self._app = cache_service.app
        self._thresholds = msgspec.structs.replace(
            thresholds(self._app.config), **{_NAMES[name]: value for name, value in given.items()}
        )

    async def check(self) -> list[str]:
        """What is wrong now: one line each; empty where all is well."""
        vitals = await self._app.alerting.vitals()
        return [_said(one.name, one.evidence, vitals) for one in quick(vitals, self._thresholds)]

    async def monitor_health(self, interval: float = 60) -> None:
        """Checks in intervals of seconds, until it is cancelled. What fails is logged, and the
        next check comes.
        """
        while True:
            try:
                alerts = await self.check()
            except Exception as error:  # noqa: BLE001 -- a monitor outlives what it monitors
                self.logger.error("Health monitoring error: %s", ascii(str(error)))  # noqa: TRY400 -- one line
            else:
                if alerts:
                    self.logger.warning("Cache health alerts: %s", ", ".join(alerts))
                else:
                    self.logger.info("Cache health check passed")
            await self._app.clock.sleep(interval)


def _said(name: str, evidence: str, vitals: Vitals) -> str:
    if name == "hit_rate.low":
        every = vitals.counts.kinds.values()
        hits = sum(kind.hits for kind in every)
        return f"Low hit rate: {hits / sum(kind.hits + kind.misses for kind in every):.1%}"
    if name == "latency.high":
        return f"High latency of the shared tier: {vitals.ping_ms:.1f}ms"
    if name == "redis.unreachable":
        return f"Redis is not connected: {evidence!a}"
    return f"{name}: {evidence!a}"
