"""Processes that share a Redis see each other's totals, whatever machine or home they are of."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from tests.redis_kit import RedisServer, redis_server
from tests.unit.usecases.app_kit import app_at

from querycache.assembly import App
from querycache.usecases.show_status import totals

pytestmark = [pytest.mark.asyncio, pytest.mark.live]


def hosts(found: Sequence[tuple[object, ...]]) -> list[str]:
    return [str(getattr(told, "host", "?")) for told, *_ in found]


def at(server: RedisServer) -> dict[str, str]:
    return {"REDIS_URL": server.url, "CACHE_L2_BACKEND": "redis"}


async def used(app: App) -> None:
    async def report() -> str:
        return "x" * 100

    for _ in range(3):
        await app.remember.get_or_compute("report", report)
    await app.keep_house()


async def test_totals_are_seen_from_another_home_until_the_process_ends(tmp_path: Path):
    async with redis_server() as server, app_at(tmp_path / "theirs", **at(server)) as theirs:
        async with app_at(tmp_path / "ours", **at(server)) as ours:
            before = (await theirs.status.health()).l2_entries
            await used(ours)
            (seen,) = await theirs.processes()
            own = await ours.processes()
            whole = totals([seen[1]])
            assert seen[0].host == socket.gethostname()
            assert seen[0].pid == ours.registry.pid
            assert not theirs.registry.is_me(seen[0])
            assert (whole["hit_count"], whole["miss_count"]) == (2, 1)
            assert hosts(own) == [""]  # its post is not shown beside what it published
            assert ours.registry.is_me(own[0][0])
            patterns = await theirs.list_keys()
            assert [one.pattern for one in patterns] == ["codebase_rag:other:_:*"]
            after = (await theirs.status.health()).l2_entries
            assert before is not None
            assert after is not None
            assert after >= before + 1
        assert await theirs.processes() == []


async def test_what_is_posted_by_another_version_is_left_out(tmp_path: Path):
    async with (
        redis_server() as server,
        app_at(tmp_path / "home", **at(server)) as app,
    ):
        await app.core.l2.post("older", b"what is this", 100.0)
        await app.core.l2.post("newer", msgspec.json.encode({"host": 7}), 100.0)
        assert await app.processes() == []


async def test_a_redis_that_is_gone_hides_the_others_and_nothing_else(tmp_path: Path):
    async with redis_server() as server, app_at(tmp_path / "home", **at(server)) as app:
        await used(app)
        await server.kill()
        assert hosts(await app.processes()) == [""]
