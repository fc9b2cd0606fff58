"""The guide's leak detector and memory monitor."""

from __future__ import annotations

import asyncio
import doctest
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from querycache import CacheMemoryLeakDetector, get_cache_service, monitor_memory_usage
from querycache.assembly.memory import LeakReport
from querycache.doors.python import memory


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("QUERYCACHE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    yield

    async def shut() -> None:
        await (await get_cache_service()).shutdown()

    asyncio.run(shut())


def test_a_clean_run_is_told_nothing():
    async def use() -> CacheMemoryLeakDetector:
        detector = CacheMemoryLeakDetector()
        async with asyncio.timeout(0.5):
            await detector.start_monitoring()
            await detector.start_monitoring()
        assert detector.get_report().monitoring
        service = await get_cache_service()
        for number in range(200):
            await service.set(f"k{number}", "x" * 10_000)
        await detector.stop_monitoring()
        await detector.stop_monitoring()
        return detector

    detector = asyncio.run(use())
    assert detector.reports == []
    report = detector.get_report()
    assert (report.monitoring, report.leaks) == (False, [])
    assert report.samples >= 1
    assert report.rss_bytes > report.l1_bytes > 200 * 10_000


def test_an_injected_leak_is_told_with_its_callbacks():
    kept: list[bytearray] = []
    heard: list[LeakReport] = []

    async def use() -> CacheMemoryLeakDetector:
        service = await get_cache_service()
        detector = CacheMemoryLeakDetector(service, interval=0.02)
        detector.add_callback(heard.append)
        await detector.start_monitoring()
        async with asyncio.timeout(20):
            while not detector.reports:
                if len(kept) < 16:
                    kept.append(bytearray(b"x" * (10 << 20)))
                await asyncio.sleep(0.01)
        await detector.stop_monitoring()
        return detector

    detector = asyncio.run(use())
    assert heard == detector.reports
    assert heard[0].growth.grown_mb >= 100
    (leak,) = detector.get_report().leaks
    assert leak["name"] == "memory.leak"
    assert "L1 holds" in leak["evidence"]


def test_a_callback_that_fails_ends_no_watch(caplog: pytest.LogCaptureFixture):
    kept: list[bytearray] = []
    heard: list[LeakReport] = []

    def fail(report: LeakReport) -> None:
        raise RuntimeError(f"deaf to {report.growth.kind}")

    async def use() -> bool:
        detector = CacheMemoryLeakDetector(await get_cache_service(), interval=0.02)
        detector.add_callback(fail)
        detector.add_callback(heard.append)
        await detector.start_monitoring()
        async with asyncio.timeout(20):
            while not detector.reports:
                if len(kept) < 16:
                    kept.append(bytearray(b"x" * (10 << 20)))
                await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        monitoring = detector.get_report().monitoring
        await detector.stop_monitoring()
        return monitoring

    assert asyncio.run(use())
    assert heard
    assert "deaf to" in caplog.text


def test_the_monitor_prints_the_lines_of_the_guide(capsys: pytest.CaptureFixture[str]):
    monitor_memory_usage(duration=0.03, interval=0.01)
    first, *rest = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"Baseline memory: \d+\.\d MB", first)
    assert [re.sub(r"[\d.]+ MB", "N MB", line) for line in rest] == [
        "Memory after 0.01s: N MB (+N MB)",
        "Memory after 0.02s: N MB (+N MB)",
        "Memory after 0.03s: N MB (+N MB)",
    ]


def test_the_examples_run():
    done = doctest.testmod(memory)
    assert (done.failed, done.attempted) == (0, 6)


def test_what_l1_says_it_uses_is_what_it_uses(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CACHE_LEVEL", "L1_MEMORY")
    monkeypatch.setenv("MEMORY_CACHE_MAX_SIZE", "10000")

    async def use() -> tuple[float, float]:
        service = await get_cache_service()
        await service.set("first", "x")
        tracemalloc.start()
        try:
            for number in range(2_000):
                await service.set(f"k{number}", f"{number}" + "x" * (200 + 2 * number))
            traced = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        info = cast("dict[str, float]", service.get_tier_stats()["l1_info"])
        return traced / (1 << 20), info["memory_usage_mb"]

    traced, told = asyncio.run(use())
    assert told == pytest.approx(traced, rel=0.2)
