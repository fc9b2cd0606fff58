"""The routes for metrics: on the server's port, on one of their own, not where switched off."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.parser import text_string_to_metric_families
from tests.doors.http_kit import Peer, config_in, sample, serving

from querycache.assembly.app import App
from querycache.doors.http_api.app import metrics_app
from querycache.doors.http_api.connection import listen
from querycache.doors.http_api.metrics_port import beside
from querycache.usecases.show_status.metrics import METRICS

pytestmark = pytest.mark.asyncio

FIELDS = {
    "timestamp": float,
    "hit_rate": float,
    "miss_rate": float,
    "total_operations": int,
    "redis_connected": bool,
    "redis_ping_time": type(None),
    "l1_memory_usage": float,
    "l1_hit_rate": float,
    "l2_hit_rate": float,
}


async def test_the_page_equals_the_statistics(tmp_path: Path):
    root = str(sample(tmp_path / "shop"))
    async with serving(config_in(tmp_path), [root]) as peer:
        for _ in range(3):
            await peer.post("/search", {"query": "tax"})
        await peer.app.keep_house()
        stats = (await peer.get("/stats/cache")).json
        answer = await peer.get("/metrics")
    assert answer.headers["content-type"] == CONTENT_TYPE_LATEST
    page = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }
    for kind, counts in stats["kinds"].items():
        assert page["querycache_hits_total", *sorted((kind, "l1"))] == counts["l1_hits"]
        assert page["querycache_loads_total", kind] == counts["loads"]
        assert (
            page["querycache_load_duration_seconds_count", kind]
            == (counts["latency"]["load"]["count"])
        )
        for reason, count in counts["reasons"].items():
            assert page["querycache_misses_total", *sorted((kind, reason))] == count
    assert stats["kinds"]["search"]["latency"]["l1"]["count"] >= 1
    assert stats["reasons"]["absent"] == stats["miss_count"]
    assert page["querycache_l1_bytes",] == stats["tiers"]["l1"]["memory_usage_bytes"]
    assert page["querycache_embedding_texts_total", "sent"] == stats["savings"]["texts_sent"]
    assert page["querycache_health", "healthy"] == 1
    assert {name for name, *_ in page} >= {
        metric.name for metric in METRICS if metric.type == "counter"
    }


async def test_a_port_of_its_own_has_the_metrics_alone_and_the_same_guard(tmp_path: Path):
    config = config_in(tmp_path, QUERYCACHE_TOKEN="t" * 32)
    app = App(config, door="http")
    listener = listen("127.0.0.1", 0)
    peer = Peer(app, listener.getsockname()[1])
    mine = {"Authorization": f"Bearer {'t' * 32}"}
    async with beside(metrics_app(app), listener):
        cached = await peer.get("/metrics/cache", **mine)
        page = await peer.get("/metrics", **mine)
        refused = [
            (await peer.get("/metrics")).status,
            (await peer.get("/metrics", Host="evil.example", **mine)).status,
            (await peer.get("/stats/cache", **mine)).status,
            (await peer.post("/metrics/cache", {}, **mine)).status,
        ]
    await app.close()
    assert cached.headers["content-type"] == "application/json"
    assert {name: type(value) for name, value in cached.json.items()} == FIELDS
    assert page.body.startswith(b"# HELP querycache_")
    assert refused == [401, 421, 404, 405]
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", peer.port)


async def test_without_a_listener_nothing_is_served(tmp_path: Path):
    app = App(config_in(tmp_path), door="http")
    async with beside(metrics_app(app), None):
        pass
    await app.close()


async def test_what_is_switched_off_is_not_answered(tmp_path: Path):
    async with serving(config_in(tmp_path, CACHE_METRICS_ENABLED="false")) as peer:
        answer = await peer.get("/metrics")
    assert (answer.status, answer.error) == (501, "NotAvailableError")
