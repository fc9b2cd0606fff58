"""The health monitor under the guide's name, and the alerts of a process."""

from __future__ import annotations

import asyncio
import doctest
import logging
from collections.abc import AsyncGenerator
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
import pytest_asyncio
from tests.redis_kit import redis_server, until

from querycache import CacheHealthMonitor, CacheService, UsageError, get_cache_service
from querycache.doors.python import isolation, monitoring, sessions
from querycache.ports.findings import Finding

pytestmark = pytest.mark.asyncio

GUIDES = {"min_hit_rate": 0.6, "max_ping_time": 50, "max_memory_usage": 1.0}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUERYCACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("CACHE_MEMORY_WARNING_THRESHOLD", "0.99")
    monkeypatch.setenv("CACHE_MEMORY_CRITICAL_THRESHOLD", "1")
    monkeypatch.chdir(tmp_path)


@pytest_asyncio.fixture
async def service() -> AsyncGenerator[CacheService]:
    service = await get_cache_service()
    yield service
    await service.shutdown()


async def test_a_healthy_cache_passes(
    service: CacheService, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = CacheHealthMonitor(service, GUIDES)
    assert await monitor.check() == []
    with caplog.at_level(logging.INFO, logger="querycache"):
        task = asyncio.ensure_future(monitor.monitor_health(interval=0.01))

        async def twice() -> bool:
            return len(caplog.records) >= 2

        await until(twice, "two checks")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert {record.message for record in caplog.records} == {"Cache health check passed"}


async def test_a_hit_rate_is_judged_after_a_hundred_reads(service: CacheService) -> None:
    monitor = CacheHealthMonitor(service, GUIDES)
    await service.set("there", 1)
    for _ in range(49):
        await service.get("there")
        await service.get("absent")
    assert await monitor.check() == []
    await service.get("there")
    await service.get("absent")
    assert await monitor.check() == ["Low hit rate: 50.0%"]
    assert await CacheHealthMonitor(service, {"min_hit_rate": 0.5}).check() == []


async def test_what_fails_in_the_monitor_is_logged_and_it_goes_on(
    service: CacheService, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = CacheHealthMonitor(service)
    looks = 0

    async def fail(*_: object) -> None:
        nonlocal looks
        looks += 1
        raise RuntimeError("out\nof order")

    service.app.alerting.vitals = fail  # type: ignore[method-assign,assignment]
    task = asyncio.ensure_future(monitor.monitor_health(interval=0.01))

    async def thrice() -> bool:
        return looks >= 3

    await until(thrice, "three looks")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert "Health monitoring error: 'out\\nof order'" in caplog.text


async def test_an_unknown_threshold_is_refused(service: CacheService) -> None:
    with pytest.raises(UsageError, match="max_pong_time"):
        CacheHealthMonitor(service, {"max_pong_time": 1})


@pytest.mark.live
async def test_a_redis_that_is_down_is_an_alert_until_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with redis_server() as server:
        monkeypatch.setenv("REDIS_HOST", "127.0.0.1")
        monkeypatch.setenv("REDIS_PORT", str(server.port))
        service = await get_cache_service()
        try:
            await service.set("k", 1)
            monitor = CacheHealthMonitor(service, GUIDES)
            assert await monitor.check() == []
            await server.kill()
            (said,) = await monitor.check()
            assert said.startswith("Redis is not connected: ")
            assert str(server.port) in said
            alerting = service.app.alerting
            (found,) = await alerting.look()
            assert isinstance(found, Finding)
            assert (found.name, found.severity) == ("redis.unreachable", "error")
        finally:
            await service.shutdown()


async def test_an_alert_is_told_to_the_log_a_command_and_other_processes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "alerts"
    monkeypatch.setenv("CACHE_ALERT_COMMAND", f"/bin/sh -c 'cat >> {out}'")
    monkeypatch.setenv("CACHE_HEALTH_CHECK_INTERVAL", "0.1")
    service = await get_cache_service()
    try:
        alerting = service.app.alerting
        for number in range(200):
            await service.get(f"absent {number}")
        with caplog.at_level(logging.WARNING, logger="querycache"):
            while not alerting.told()["alerts"]:
                await alerting.turn()
                await asyncio.sleep(0.02)
            await alerting.deliveries.settle()
        assert "alert: hit_rate.low" in caplog.text
        told = await asyncio.to_thread(out.read_bytes)
        assert msgspec.json.decode(told.splitlines()[0])["name"] == "hit_rate.low"
        assert [
            one["name"] for one in msgspec.convert(alerting.told()["alerts"], list[dict[str, str]])
        ] == ["hit_rate.low"]
    finally:
        await service.shutdown()


def examples_of(*modules: ModuleType) -> None:
    for module in modules:
        done = doctest.testmod(module)
        assert (done.failed, done.attempted > 0) == (0, True)
    asyncio.run(shut())


async def shut() -> None:
    await (await get_cache_service()).shutdown()


async def test_the_examples_of_the_docstrings_run() -> None:
    await asyncio.to_thread(examples_of, isolation, monitoring, sessions)
