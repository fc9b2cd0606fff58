"""A real Redis that was edited with nobody told: the check of the tiers finds it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.redis_kit import redis_server
from tests.unit.usecases.app_kit import app_at

from querycache.doors.python.cache import CacheService

pytestmark = [pytest.mark.asyncio, pytest.mark.live, pytest.mark.alone]


async def test_an_edit_behind_l1_is_found_listed_and_healed(tmp_path: Path) -> None:
    async with redis_server() as server, app_at(tmp_path, REDIS_URL=server.url) as app:
        service, name = CacheService(app), app.namer.raw("k")
        assert await service.set("k", "first")
        assert await service.set("same", "same")
        first = await server.ask("GET", name)
        assert await service.set("k", "second")
        assert await service.get("k") == "second"
        whole = await service.check_cache_coherency()
        assert (whole["coherent"], whole["stale_entries"]) == (True, 0)

        await server.ask("SET", name, first, "PX", 60_000)  # no message says so
        assert await service.get("k") == "second"
        found = await service.check_cache_coherency()
        assert (found["coherent"], found["l1_l2_consistent"]) == (False, False)
        assert (found["stale_entries"], found["mismatched_keys"]) == (1, [name])
        assert await service.get("k") == "first"
        assert (await service.check_cache_coherency())["coherent"]
