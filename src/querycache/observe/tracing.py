"""OpenTelemetry: a span for each request and each load, and the declared metrics as observable
instruments.

What is sent where is OpenTelemetry's own to say (its OTEL_ variables). Where the application that
we are part of has set providers, those are used; else ours, which send over OTLP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from threading import Thread

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status, StatusCode

from querycache.clock import Clock
from querycache.events import Event, Loaded, LoadFailed, TierFailed
from querycache.ports.latency import Latency
from querycache.ports.metrics import Measured, Metric

_NAME = "querycache"
_NANO = 1_000_000_000
_ENDS_S = 2.0

ReadMetrics = Callable[[], Iterable[Measured]]


class OpenTelemetry:
    """Implements `ports.tracing.Tracing` over two providers."""

    def __init__(  # noqa: PLR0913 -- what it joins
        self,
        tracers: trace.TracerProvider,
        meters: metrics.MeterProvider,
        *,
        clock: Clock,
        kind_of: Callable[[str], str],
        declared: Iterable[Metric],
        read: ReadMetrics,
        own: bool = False,
    ) -> None:
        """`kind_of` says what kind of entry a name is, `read` what was measured lately: it is
        called in a thread of the provider. `own`: the providers are to be shut down in the end.
        """
        self._tracer = tracers.get_tracer(_NAME)
        self._wall = clock.wall
        self._kind_of = kind_of
        self._read = read
        self._ended = (tracers, meters) if own else ()
        meter = meters.get_meter(_NAME)
        for metric in declared:
            self._observe(meter, metric)

    def emit(self, event: Event) -> None:
        """A span for what took time or failed."""
        if isinstance(event, Loaded):
            self._span("querycache.load", event, event.took_s)
        elif isinstance(event, LoadFailed):
            self._span("querycache.load", event, 0.0, event.error)
        elif isinstance(event, TierFailed):
            self._span(f"querycache.l2.{event.operation}", event, 0.0, event.error)

    def span(
        self, name: str, attributes: Mapping[str, str] | None = None
    ) -> AbstractContextManager[object]:
        """A span that is current within the block; an error that leaves it is recorded."""
        return self._tracer.start_as_current_span(name, attributes=dict(attributes or {}))

    def close(self) -> None:
        """Sends what waits, and ends the providers that are ours. A collector that does not take
        it within 2 s gets none of it: alone, they would try for half a minute.
        """
        ends = [getattr(provider, "shutdown", None) for provider in self._ended]
        ending = [Thread(target=end, daemon=True) for end in ends if end is not None]
        for thread in ending:
            thread.start()
        for thread in ending:
            thread.join(_ENDS_S)

    def _span(self, name: str, event: Event, took_s: float, error: str = "") -> None:
        ended = self._wall()
        span = self._tracer.start_span(
            name,
            attributes={"querycache.kind": self._kind_of(event.key)},
            start_time=int((ended - took_s) * _NANO),
        )
        if error:
            span.set_status(Status(StatusCode.ERROR, error))
        span.end(int(ended * _NANO))

    def _observe(self, meter: metrics.Meter, metric: Metric) -> None:
        """A histogram can't be observed from outside: its count and its sum are told."""
        read = self._samples
        if metric.type == "gauge":
            meter.create_observable_gauge(
                metric.name, [partial(read, metric.name)], "", metric.help
            )
        elif metric.type == "counter":
            name = metric.name.removesuffix("_total")
            meter.create_observable_counter(name, [partial(read, metric.name)], "", metric.help)
        else:
            for part in ("count", "sum"):
                callbacks = [partial(read, metric.name, part=part)]
                name = f"{metric.name}_{part}"
                meter.create_observable_counter(name, callbacks, "", metric.help)

    def _samples(self, name: str, _: CallbackOptions, *, part: str = "") -> Iterable[Observation]:
        for one in self._read():
            if one.metric.name != name:
                continue
            for values, value in one.samples:
                labels = dict(zip(one.metric.labels, values, strict=True))
                if isinstance(value, Latency):
                    told = float(value.count) if part == "count" else value.total_s
                else:
                    told = float(value)
                yield Observation(told, labels)


def open_telemetry(
    *,
    clock: Clock,
    kind_of: Callable[[str], str],
    declared: Iterable[Metric],
    read: ReadMetrics,
) -> OpenTelemetry:
    """Over the application's providers, or our own."""
    tracers, meters = trace.get_tracer_provider(), metrics.get_meter_provider()
    own = isinstance(tracers, trace.ProxyTracerProvider)
    if own:
        resource = Resource.create({SERVICE_NAME: _NAME})
        tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
        tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        reader = PeriodicExportingMetricReader(OTLPMetricExporter())
        meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    return OpenTelemetry(
        tracers, meters, clock=clock, kind_of=kind_of, declared=declared, read=read, own=own
    )
