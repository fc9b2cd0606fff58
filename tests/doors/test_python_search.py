"""Code search from Python, as the README shows it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.unit.usecases.app_kit import make_project

from querycache import ProjectNotFoundError, get_cache_service, index_project, search_code


def test_index_and_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUERYCACHE_HOME", str(tmp_path / "home"))
    project = make_project(tmp_path / "sample")
    monkeypatch.chdir(project)

    async def use() -> None:
        with pytest.raises(ProjectNotFoundError):
            await search_code("greet")
        indexed = await index_project(".")
        assert (indexed.project, indexed.files) == ("sample", 5)
        first = await search_code("read the configuration", limit=2)
        assert first.results[0].path == "app/settings.py"
        assert (await search_code("read the configuration", limit=2)).cache.tier == "l1"
        assert (await search_code("start", language="javascript")).results
        service = await get_cache_service()
        await service.shutdown()

    asyncio.run(use())
