"""The routes for what plots and watches: metrics as the guide's dashboard has them, and as
Prometheus reads them.
"""

from __future__ import annotations

import msgspec

from querycache.assembly.app import App
from querycache.doors.http_api import asked, wire
from querycache.doors.http_api.route import Reply, Route, Served, Text
from querycache.errors import NotAvailableError


async def _metrics(served: Served, _: asked.NothingAsked) -> Reply:
    app = _offered(served)
    health = await app.status.health()
    snapshot = app.status.snapshot()
    tiers = app.status.shaped([snapshot], health)
    fields = {
        **wire.counted(snapshot),
        "timestamp": app.clock.wall(),
        "redis_connected": health.redis_connected,
        "redis_ping_time": health.redis_ping_time,
        "l1_memory_usage": tiers.l1.memory_usage_mb,
        "l1_hit_rate": tiers.l1.hit_rate,
        "l2_hit_rate": tiers.l2.hit_rate,
    }
    return Reply(msgspec.convert(fields, wire.Metrics))


async def _prometheus(served: Served, _: asked.NothingAsked) -> Reply:
    page = await _offered(served).metering.page()
    return Reply(Text(page.decode()))


def _offered(served: Served) -> App:
    if not served.app.config.watch.metrics_enabled:
        raise NotAvailableError(
            "metrics are switched off", remedy="set CACHE_METRICS_ENABLED=true"
        )
    return served.app


ROUTES = (
    Route(
        method="GET",
        path="/metrics/cache",
        summary="Rates, operations and memory, to be plotted.",
        call=_metrics,
        answers=wire.Metrics,
    ),
    Route(
        method="GET",
        path="/metrics",
        summary="What this process did and how it is, for Prometheus. Each process tells of"
        " itself.",
        call=_prometheus,
        answers=Text,
        media="text/plain; version=1.0.0; charset=utf-8",
    ),
)
