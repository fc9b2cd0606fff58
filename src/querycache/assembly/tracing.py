"""Tracing, where the settings ask for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from querycache.clock import Clock
from querycache.config import Config
from querycache.errors import ConfigError
from querycache.keys import Namer
from querycache.ports.metrics import Measured
from querycache.ports.tracing import NoTracing, Tracing


def tracing_of(
    config: Config, clock: Clock, namer: Namer, read: Callable[[], Iterable[Measured]]
) -> Tracing:
    """What traces this process. Raises `ConfigError` where the extra is not installed."""
    if not config.watch.tracing:
        return NoTracing()
    try:
        from querycache.observe.tracing import open_telemetry
    except ImportError as error:
        raise ConfigError(
            f"CACHE_OPENTELEMETRY_ENABLED needs OpenTelemetry, which is not installed ({error})",
            remedy="python -m pip install 'querycache[otel]', or set it to false",
        ) from error
    from querycache.usecases.show_status.metrics import METRICS

    return open_telemetry(clock=clock, kind_of=namer.kind_of, declared=METRICS, read=read)
