"""The watch over one process's own health, and who is told of what lasts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from querycache.ports.alerts import Alert, Receiver
from querycache.ports.findings import Finding
from querycache.usecases.diagnose.figures import Counts, KindFigures, Memory, Thresholds, Vitals
from querycache.usecases.diagnose.vitals import quick
from querycache.usecases.show_status import Health
from querycache.usecases.watch_health import WatchHealth

if TYPE_CHECKING:
    from querycache.assembly.cases import UseCases
    from querycache.config import Config
    from querycache.observe.alerts import Deliveries

_LOOKS = 5
"""Rates are those of so many intervals, so that an old success hides no present failure."""


def thresholds(config: Config) -> Thresholds:
    """The one table of thresholds, as the settings have it."""
    return Thresholds(
        hit_rate=config.watch.hit_rate_threshold,
        latency_ms=config.watch.latency_threshold_ms,
        error_rate=config.watch.error_rate_threshold,
        lag_ms=config.watch.lag_threshold_ms,
        memory_warning=config.memory_pressure.warning_threshold,
        memory_critical=config.memory_pressure.critical_threshold,
        denials=config.safety.failed_access_threshold,
    )


def vitals_of(
    health: Health,
    memory: Memory | None,
    counts: Counts = Counts(),  # noqa: B008 -- an immutable value
) -> Vitals:
    """What a monitor looks at, from what health says."""
    redis = health.l2_backend == "redis"
    return Vitals(
        counts=counts,
        redis="none" if not redis else "up" if health.l2_connected else "down",
        where=health.l2_where,
        words=health.last_error or "",
        ping_ms=health.l2_ping_time,
        memory=memory,
        lag_ms=health.invalidation_lag_ms,
        mismatches=health.coherency.last_mismatches,
    )


class Alerting:
    """Looks at the vitals in intervals, and hands on what lasts."""

    def __init__(self, app: UseCases, memory: Callable[[], object]) -> None:
        """`memory` tells what the process has and may have, as it is published."""
        self._app = app
        self._memory = memory
        self._before: deque[Counts] = deque([Counts()], maxlen=_LOOKS)
        self._delivered = False

    @cached_property
    def watch_health(self) -> WatchHealth:
        interval = self._app.config.watch.health_check_interval_s
        return WatchHealth(self.look, self._offer, self._app.clock, interval)

    @cached_property
    def deliveries(self) -> Deliveries:
        from querycache.observe.alerts import Command, Deliveries, Log, Webhook

        watch = self._app.config.watch
        receivers: list[Receiver] = [Log()]
        if watch.alert_webhook:
            receivers.append(Webhook(watch.alert_webhook.reveal()))
        if watch.alert_command:
            receivers.append(Command(watch.alert_command.reveal()))
        return Deliveries(receivers)

    async def turn(self) -> None:
        """One turn of the watch."""
        await self.watch_health.turn()

    async def look(self) -> list[Finding]:
        """What is wrong now, in this process."""
        vitals = await self.vitals(self._before[0])
        self._before.append(self._counts())
        return quick(vitals, thresholds(self._app.config))

    async def vitals(self, before: Counts = Counts()) -> Vitals:  # noqa: B008 -- immutable
        """What a monitor looks at; the counts are those since `before`."""
        health = await self._app.status.health()
        counts = _since(before, self._counts())
        return vitals_of(health, self._present_memory(), counts)

    def told(self) -> dict[str, object]:
        """The alerts that are raised now."""
        return {"alerts": [msgspec.structs.asdict(one) for one in self._active()]}

    async def close(self) -> None:
        """Tells nobody any more."""
        if self._delivered:
            await self.deliveries.close()

    def _active(self) -> list[Finding]:
        alerts = self.watch_health.active.values()
        return [Finding(one.name, one.severity, one.evidence, one.remedy) for one in alerts]

    def _offer(self, alert: Alert) -> None:
        self._delivered = True
        self.deliveries.offer(alert)

    def _counts(self) -> Counts:
        snapshot = self._app.status.snapshot()
        return msgspec.convert(msgspec.to_builtins(snapshot), Counts)

    def _present_memory(self) -> Memory | None:
        fields = {"used": "used_bytes", "limit": "limit_bytes", "rss": "rss_bytes"}
        try:
            told = msgspec.convert(self._memory(), dict[str, object])
            named = {name: told[field] for name, field in fields.items()}
            return msgspec.convert({**named, "source": told["source"]}, Memory)
        except (KeyError, msgspec.ValidationError):
            return None


def _since(before: Counts, now: Counts) -> Counts:
    kinds = {
        kind: _less(figures, before.kinds.get(kind, KindFigures()))
        for kind, figures in now.kinds.items()
    }
    return msgspec.structs.replace(
        now, kinds=kinds, l2_failures=now.l2_failures - before.l2_failures
    )


def _less(now: KindFigures, before: KindFigures) -> KindFigures:
    return KindFigures(
        l1_hits=now.l1_hits - before.l1_hits,
        l2_hits=now.l2_hits - before.l2_hits,
        misses=now.misses - before.misses,
        loads=now.loads - before.loads,
        sets=now.sets - before.sets,
        errors=now.errors - before.errors,
        reasons={why: n - before.reasons.get(why, 0) for why, n in now.reasons.items()},
    )
