"""`CacheWarmupService`, as the guide uses it."""

from __future__ import annotations

import asyncio
import doctest
from pathlib import Path

import pytest
from tests.unit.usecases.app_kit import make_project

from querycache import (
    CacheWarmupService,
    ProjectNotFoundError,
    get_cache_service,
    index_project,
    search_code,
)
from querycache.doors.python import warming


def test_a_warmed_project_answers_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUERYCACHE_HOME", str(tmp_path / "home"))
    project = make_project(tmp_path / "sample")
    told: list[str] = []

    def tell(_done: int, _total: int, what: str) -> None:
        told.append(what)

    async def use() -> None:
        service = await get_cache_service()
        try:
            warmup = CacheWarmupService(service)
            with pytest.raises(ProjectNotFoundError, match="no project 'your_project'"):
                await warmup.warm_project_cache("your_project")
            await index_project(project, "your_project")
            cold = await warmup.warm_project_cache("your_project")
            assert (cold.loaded, cold.skipped, cold.failed) == (1, 0, 0)
            await search_code("greet", "your_project")
            service.l1_cache.clear()
            warm = await warmup.warm_project_cache(
                "your_project",
                budget_s=20,
                budget_mb=50,
                progress=tell,
            )
            assert (warm.loaded, warm.failed, warm.bytes > 0) == (2, 0, True)
            assert (await search_code("greet", "your_project")).cache.tier == "l1"
        finally:
            await service.shutdown()

    asyncio.run(use())
    assert sorted(told) == ["greet", "the overview of your_project"]


def test_its_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUERYCACHE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(make_project(tmp_path / "sample"))

    assert doctest.testmod(warming) == doctest.TestResults(0, 4)
