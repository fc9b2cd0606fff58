"""What OpenTelemetry gets: a span for each request, load and failure, and every metric."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.unit.observe.test_exposition import busy, seen
from tests.unit.usecases.app_kit import app_at, make_project

from querycache.clock import SystemClock
from querycache.errors import ConfigError
from querycache.events import Loaded, TierFailed
from querycache.observe import tracing
from querycache.observe.ring import EventRing
from querycache.observe.tracing import OpenTelemetry
from querycache.ports.latency import Latency
from querycache.testing import FakeClock
from querycache.usecases.show_status import Snapshot
from querycache.usecases.show_status.metrics import METRICS, measured

ON = "CACHE_OPENTELEMETRY_ENABLED"


class Collected:
    """What the SDK's exporters in memory got."""

    def __init__(self, clock: FakeClock) -> None:
        self.spans = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        look = seen(Snapshot({"search": busy()}, deletes=4), EventRing(1, SystemClock()))
        self.told = list(measured(look))
        self.tracing = OpenTelemetry(
            tracers,
            MeterProvider([self.reader], shutdown_on_exit=False),
            clock=clock,
            kind_of=lambda key: key.split(":")[1],
            declared=METRICS,
            read=lambda: self.told,
            own=True,
        )

    def named(self, name: str) -> ReadableSpan:
        (span,) = (one for one in self.spans.get_finished_spans() if one.name == name)
        return span

    def metrics(self) -> Mapping[str, dict[tuple[object, ...], float]]:
        found: dict[str, dict[tuple[object, ...], float]] = {}
        data = self.reader.get_metrics_data()
        assert data is not None
        for metric in data.resource_metrics[0].scope_metrics[0].metrics:
            rows = found[metric.name] = {}
            for point in metric.data.data_points:
                assert isinstance(point, NumberDataPoint)
                rows[tuple((point.attributes or {}).values())] = point.value
        return found


def test_a_load_is_a_span_of_its_length_within_the_request():
    clock = FakeClock(wall=1000.0)
    collected = Collected(clock)
    with collected.tracing.span("querycache.search", {"querycache.project": "shop"}):
        collected.tracing.emit(Loaded("codebase_rag:search:shop:1", 0.25))
    load, search = collected.named("querycache.load"), collected.named("querycache.search")
    assert (load.end_time or 0) - (load.start_time or 0) == pytest.approx(250_000_000, abs=1000)
    assert load.parent is not None
    request = search.get_span_context()
    assert request is not None
    assert load.parent.span_id == request.span_id
    assert (load.attributes or {})["querycache.kind"] == "search"
    assert (search.attributes or {})["querycache.project"] == "shop"
    collected.tracing.close()


def test_a_failure_is_a_span_that_says_so():
    collected = Collected(FakeClock())
    collected.tracing.emit(TierFailed("codebase_rag:file:_:1", "redis", "read", "refused"))
    span = collected.named("querycache.l2.read")
    assert (span.status.status_code, span.status.description) == (
        trace.StatusCode.ERROR,
        "refused",
    )
    collected.tracing.close()


def test_every_metric_is_observed():
    collected = Collected(FakeClock())
    found = collected.metrics()
    for one in collected.told:
        for values, value in one.samples:
            if isinstance(value, Latency):
                assert found[f"{one.metric.name}_count"][values] == value.count
            else:
                assert found[one.metric.name.removesuffix("_total")][values] == value
    assert found["querycache_deletes"][()] == 4
    collected.tracing.close()


def test_a_collector_that_takes_nothing_holds_up_no_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tracing, "_ENDS_S", 0.05)
    release = threading.Event()

    class Stuck(TracerProvider):
        def shutdown(self) -> None:
            release.wait()

    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    whole = OpenTelemetry(
        Stuck(shutdown_on_exit=False),
        meters,
        clock=FakeClock(),
        kind_of=str,
        declared=(),
        read=tuple,
        own=True,
    )
    try:
        whole.close()  # it would wait for as long as the test may take
    finally:
        release.set()


@pytest.mark.asyncio
async def test_an_app_is_traced_through_the_application_s_own_providers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    meters = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: tracers)
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: meters)
    root = str(make_project(tmp_path / "sample"))
    async with app_at(tmp_path / "home", **{ON: "true"}) as app:
        await app.index(root, "sample")
        await app.search("read the settings", "sample")
        await app.keep_house()
        names = {span.name for span in spans.get_finished_spans()}
        assert {"querycache.index", "querycache.search", "querycache.load"} <= names
        data = reader.get_metrics_data()
    assert data is not None
    told = {metric.name for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    assert {
        "querycache_hits",
        "querycache_l1_bytes",
        "querycache_load_duration_seconds_sum",
    } <= told
    tracers.shutdown()
    meters.shutdown()


@pytest.mark.asyncio
async def test_what_is_not_installed_is_said_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delitem(sys.modules, "querycache.observe.tracing", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)  # as if it were not there
    with pytest.raises(ConfigError) as caught:
        async with app_at(tmp_path / "home", **{ON: "true"}):
            pass
    assert "pip install 'querycache[otel]'" in caught.value.remedy
