"""The page that Prometheus reads, made from what was measured at the moment it asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from querycache.ports.latency import BOUNDS_S, Latency
from querycache.ports.metrics import Measured

CONTENT_TYPE = CONTENT_TYPE_LATEST

BUCKETS_S = (1e-6, 5e-6, 2e-5, 1e-4, 5e-4, 2e-3, 0.01, 0.05, 0.2, 1.0, 5.0, 30.0)
"""Those of BOUNDS_S that are told: all would be most of the page."""

_PLACES = tuple(min(range(len(BOUNDS_S)), key=lambda p: abs(BOUNDS_S[p] - b)) for b in BUCKETS_S)


class _Collector(Collector):
    def __init__(self, measured: Iterable[Measured]) -> None:
        self._measured = measured

    def collect(self) -> Iterator[Metric]:
        for one in self._measured:
            yield _family(one)


def page(measured: Iterable[Measured]) -> bytes:
    """The page, in the text format (see `CONTENT_TYPE`)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(list(measured)))
    return generate_latest(registry)


def _family(one: Measured) -> Metric:
    name, help_, labels = one.metric.name, one.metric.help, list(one.metric.labels)
    if one.metric.type == "histogram":
        histogram = HistogramMetricFamily(name, help_, labels=labels)
        for values, value in one.samples:
            if isinstance(value, Latency):
                histogram.add_metric(list(values), _buckets(value), value.total_s)
        return histogram
    made = CounterMetricFamily if one.metric.type == "counter" else GaugeMetricFamily
    family = made(name, help_, labels=labels)
    for values, value in one.samples:
        if not isinstance(value, Latency):
            family.add_metric(list(values), float(value))
    return family


def _buckets(latency: Latency) -> Sequence[tuple[str, float]]:
    """Cumulative, with the bound as its label."""
    counts = latency.counts or [0] * (len(BOUNDS_S) + 1)
    told: list[tuple[str, float]] = [
        (str(bound), float(sum(counts[: place + 1])))
        for bound, place in zip(BUCKETS_S, _PLACES, strict=True)
    ]
    return [*told, ("+Inf", float(sum(counts)))]
