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


@pytest.mark.parametrize(
    "snapshot",
    [
        b"[" * 100_000,
        b'{"kinds":{"search":{"l1_hits":1' + b"0" * 400 + b"}}}",
        b'{"kinds":{"search":{"l1_hits":-1}}}',
        b'{"kinds":{},"l1_bytes":1' + b"0" * 400 + b"}",
        b'{"kinds":{},"uptime_s":1e300}',
    ],
    ids=["deep", "huge", "negative", "huge_bytes", "endless"],
)
async def test_what_a_stranger_posts_breaks_nothing(tmp_path: Path, snapshot: bytes):
    async with redis_server() as server, app_at(tmp_path / "home", **at(server)) as app:
        await app.core.l2.post("stranger", posted(snapshot), 100.0)
        await app.core.l2.post("peer", posted(b'{"kinds":{"search":{"l1_hits":1}}}'), 100.0)
        (seen,) = await app.processes()
        assert totals([seen[1]])["hit_count"] == 1


async def test_what_is_larger_than_a_post_may_be_is_not_read(tmp_path: Path):
    async with redis_server() as server, app_at(tmp_path / "home", **at(server)) as app:
        whole = posted(b'{"kinds":{}}').decode()
        place = "codebase_rag:meta:process:{all}:"
        await server.ask("SET", f"{place}00", f"small\n{whole}")
        await server.ask("SET", f"{place}01", f"large\n{whole}{' ' * 300_000}")
        assert (await app.core.l2.posts()).keys() == {"small"}


async def test_kinds_and_reasons_that_there_are_not_are_left_out(tmp_path: Path):
    reasons = {"\x1b[31mhm": 5, "absent": 2}
    kinds = {"search": {"l1_hits": 1, "reasons": reasons}} | {f"k{n}": {} for n in range(2000)}
    async with redis_server() as server, app_at(tmp_path / "home", **at(server)) as app:
        data = posted(msgspec.json.encode({"kinds": kinds}))
        await app.core.l2.post("stranger", data, 100.0)
        ((_, snapshot),) = await app.processes()
    assert snapshot.kinds.keys() == {"search"}
    assert snapshot.kinds["search"].reasons == {"absent": 2}


def posted(snapshot: bytes) -> bytes:
    post = {"host": "h", "home": "x", "pid": 1, "started": 1.0, "door": "serve", "at": 2.0}
    return msgspec.json.encode(post | {"snapshot": msgspec.Raw(snapshot)})


async def test_a_redis_that_is_gone_hides_the_others_and_nothing_else(tmp_path: Path):
    async with redis_server() as server, app_at(tmp_path / "home", **at(server)) as app:
        await used(app)
        await server.kill()
        assert hosts(await app.processes()) == [""]
