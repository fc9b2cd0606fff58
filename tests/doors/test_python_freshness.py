"""Freshness under the guide's names: what its page does, works."""

from __future__ import annotations

import asyncio
import doctest
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from querycache import (
    CacheInvalidationService,
    FileMonitoringService,
    UsageError,
    get_cache_service,
    index_project,
    search_code,
)
from querycache.doors.python import freshness


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("QUERYCACHE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    yield
    asyncio.run(shut())


async def shut() -> None:
    await (await get_cache_service()).shutdown()


def test_the_examples_run() -> None:
    assert doctest.testmod(freshness).failed == 0


def test_each_invalidation_cuts_what_it_says() -> None:
    async def use() -> None:
        service, cuts = await get_cache_service(), CacheInvalidationService()
        path = os.path.abspath("app.py")  # noqa: ASYNC240, PTH100 -- no I/O
        keys = {f"file:{path}": 1, "project:shop": 2, "report:1": 3, "kept": 4}
        await service.set_batch(keys)
        await service.set("tagged", 5, tags=["t"])
        assert (await cuts.invalidate_file_cache("app.py")).files == 1
        assert (await cuts.invalidate_file_cache(Path("/nowhere/else.py"))).entries == 0
        assert (await cuts.invalidate_project_cache("shop")).told
        assert (await cuts.invalidate_tag("t")).generation > 0
        assert (await cuts.invalidate_pattern("report:*")).entries == 1
        assert await service.get_batch([*keys, "tagged"]) == {"kept": 4}
        assert (await cuts.invalidate_all_caches()).entries >= 1
        assert await service.get("kept") is None
        with pytest.raises(UsageError):
            await cuts.invalidate_pattern("")

    asyncio.run(use())


def test_a_watched_folder(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    file = root / "answer.py"
    file.write_text("def answer():\n    return 41\n")

    async def use() -> None:
        await index_project(root, "answers")
        assert (await search_code("answer", "answers")).results
        service, monitor = await get_cache_service(), FileMonitoringService()
        await monitor.start_monitoring(str(root))
        await monitor.start_monitoring([root])  # once is enough
        (row,) = monitor.get_status()
        assert (row["root"], row["watching"], row["error"]) == (str(root), True, "")
        await service.set(f"file:{file}", "derived")
        file.write_text("def answer():\n    return 42\n")
        async with asyncio.timeout(15):
            while await service.get(f"file:{file}") is not None:  # noqa: ASYNC110 -- the world
                await asyncio.sleep(0.01)
        assert "42" in (await search_code("answer", "answers")).results[0].text
        await monitor.stop_monitoring()
        await monitor.stop_monitoring()
        assert monitor.get_status() == []
        with pytest.raises(UsageError, match="not a folder"):
            await monitor.start_monitoring(["absent"])
        await shut()

    asyncio.run(use())


def test_a_watch_ends_with_its_loop_and_can_begin_in_another(tmp_path: Path) -> None:
    monitor = FileMonitoringService()

    async def start() -> list[dict[str, object]]:
        await monitor.start_monitoring([tmp_path])
        return monitor.get_status()

    for _ in range(2):
        (row,) = asyncio.run(start())
        assert (row["alive"], row["listening"]) == (True, True)
    assert [row["alive"] for row in monitor.get_status()] == [False]
