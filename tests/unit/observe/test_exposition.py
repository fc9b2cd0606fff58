"""The page for Prometheus: what it tells, and how much of it there can be (F55)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from querycache import events
from querycache.clock import SystemClock
from querycache.observe.exposition import BUCKETS_S, page
from querycache.observe.ring import EventRing
from querycache.ports.latency import BOUNDS_S, Latency
from querycache.ports.memory import Reading
from querycache.ports.spending import Spending
from querycache.usecases.show_status import Health, KindCounts, Snapshot
from querycache.usecases.show_status.metrics import METRICS, Seen, measured
from querycache.values import Kind

HEALTH = Health(
    status="degraded",
    redis_connected=True,
    redis_ping_time=0.4,
    memory_usage={},
    connection_pool_stats={},
    last_error=None,
    check_timestamp=0.0,
    l2_backend="redis",
    l2_connected=True,
    l2_ping_time=0.4,
    l2_entries=7,
    l2_bytes=7000,
    l2_max_bytes=10_000,
    problems=(),
    invalidation_lag_ms=1.5,
)


def seen(snapshot: Snapshot, ring: EventRing, health: Health = HEALTH) -> Seen:
    return Seen(
        snapshot=snapshot,
        health=health,
        memory=Reading(50, 100, "cgroup", 25),
        happened=ring.counts,
        failed=ring.by_label(events.TierFailed),
        started=5.0,
        price=2.0,
    )


def busy() -> KindCounts:
    timed = Latency()
    for seconds in (3e-7, 0.049, 0.051, 77.0):
        timed.observe(seconds)
    return KindCounts(
        l1_hits=5, l2_hits=3, misses=2, reasons={"expired": 2}, l1=timed, l2=timed, load=timed
    )


def told(text: bytes) -> Iterator[tuple[str, dict[str, str], float]]:
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def values(text: bytes, name: str, **labels: str) -> list[float]:
    return [v for n, had, v in told(text) if n == name and labels.items() <= had.items()]


def test_the_page_tells_what_was_counted():
    ring = EventRing(10, SystemClock())
    ring.emit(events.TierFailed("k", "redis", "read", "gone"))
    ring.emit(events.TierFailed("k", "redis", "something new", "gone"))
    spending = Spending(10, 4, 2, 1, 400, 160, tokens_told=40, characters_told=160)
    snapshot = Snapshot({"search": busy()}, l1_bytes=900, spending=spending)
    text = page(measured(seen(snapshot, ring)))
    assert values(text, "querycache_hits_total", kind="search", tier="l2") == [3]
    assert values(text, "querycache_misses_total", kind="search", reason="expired") == [2]
    assert values(text, "querycache_l2_failures_total", operation="read") == [1]
    assert values(text, "querycache_l2_failures_total", operation="other") == [1]
    assert values(text, "querycache_events_total", event="TierFailed") == [2]
    assert values(text, "querycache_l2_up", backend="redis") == [1]
    assert values(text, "querycache_l2_ping_seconds") == [pytest.approx(0.0004)]
    assert values(text, "querycache_health", status="degraded") == [1]
    assert values(text, "querycache_health", status="healthy") == [0]
    assert values(text, "querycache_embedding_texts_total", what="sent") == [4]
    assert values(text, "querycache_embedding_tokens", what="saved") == [60]
    assert values(text, "querycache_saved_money") == [pytest.approx(60 * 2 / 1e6)]


def test_a_histogram_is_cumulative_and_holds_what_took_longest():
    snapshot = Snapshot({"search": busy()})
    text = page(measured(seen(snapshot, EventRing(1, SystemClock()))))
    name = "querycache_load_duration_seconds"
    buckets = values(text, f"{name}_bucket", kind="search")
    assert buckets == sorted(buckets)
    assert buckets[-1] == 4
    assert values(text, f"{name}_bucket", kind="search", le="0.05") == [2]
    assert values(text, f"{name}_bucket", kind="search", le="30.0") == [3]
    assert values(text, f"{name}_count", kind="search") == [4]
    assert values(text, f"{name}_sum", kind="search") == [pytest.approx(77.1, abs=1e-3)]


def test_buckets_are_bounds_of_the_histograms():
    assert all(any(abs(bound - one) < 1e-12 for one in BOUNDS_S) for bound in BUCKETS_S)


def test_every_declared_metric_is_told_with_its_labels():
    text = page(measured(seen(Snapshot({}), EventRing(1, SystemClock()))))
    families = {family.name: family for family in text_string_to_metric_families(text.decode())}
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.type, metric.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels)
            assert all(
                value in metric.labels[label]
                for label, value in sample.labels.items()
                if label != "le"
            )


def test_names_follow_the_conventions():
    for metric in METRICS:
        assert metric.name.startswith("querycache_")
        assert (metric.type == "counter") == metric.name.endswith("_total")
        assert not any(unit in metric.name for unit in ("_ms", "_mb", "_kb"))
    assert len({metric.name for metric in METRICS}) == len(METRICS)


@pytest.mark.alone
def test_a_flood_of_names_makes_no_series():
    """F55: 100,000 projects, keys, tags, operations and kinds."""
    ring = EventRing(4000, SystemClock())
    flood: dict[str, KindCounts] = {str(kind): busy() for kind in Kind}
    for number in range(100_000):
        ring.emit(events.Invalidated(f"codebase_rag:other:p{number}:k", f"project:{number}", "x"))
    for number in range(1000):
        ring.emit(events.TierFailed(f"k{number}", "redis", f"op {number}", f"error {number}"))
        flood[f'kind"{number}\n'] = KindCounts(misses=1, reasons={f"why {number}": 1})
    for kind in Kind:
        flood[kind].reasons |= {f"why {number}": 1 for number in range(1000)}
    look = seen(Snapshot(flood), ring)
    page(measured(look))  # imports and caches of the parser aside
    took: list[float] = []
    text = b""
    for _ in range(20):
        began = time.thread_time()
        text = page(measured(look))
        took.append(time.thread_time() - began)
    series = list(told(text))
    assert len(series) <= 500
    assert len(text) <= 256 * 1024
    assert min(took) <= 0.020
