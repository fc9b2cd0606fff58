"""What the shared tier holds when encryption is on: nothing that says what was cached, and nothing
that another setting or another place could turn into a wrong value.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from tests.redis_kit import redis_server

from querycache.assembly import App
from querycache.config import load_config
from querycache.errors import ConfigError, TierError
from querycache.keys import Scope
from querycache.ports.origins import Question
from querycache.ports.tiers import Write

pytestmark = pytest.mark.asyncio

CANARY = "a-planted-canary-of-the-source"
KEY = base64.b64encode(secrets.token_bytes(32)).decode()
ON = {"CACHE_ENCRYPTION_ENABLED": "true", "CACHE_ENCRYPTION_KEY": KEY}


@asynccontextmanager
async def app(folder: Path, **settings: str) -> AsyncGenerator[App]:
    environ = {"HOME": str(folder), "QUERYCACHE_HOME": str(folder / "cache"), **settings}
    opened = App(load_config(environ, folder).config)
    try:
        yield opened
    finally:
        await opened.close()


async def stored(opened: App, name: str) -> bytes:
    (read,) = await opened.core.l2.read([name])
    assert read.data is not None
    return read.data


async def put(opened: App, name: str, data: bytes) -> None:
    write = Write(name, data, opened.clock.wall() + 600)
    assert await opened.core.l2.write([write]) == [True]
    opened.l1.clear()


def on_disk(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


async def fill(opened: App) -> None:
    remember = opened.remember
    for number in range(20):
        assert await remember.set(f"key:{number}", [CANARY, number])
    assert await remember.set("search:large", CANARY * 1000)
    for strategy in ("text", b"bytes"):
        await remember.set(f"file:{strategy!r}", {CANARY: strategy})
    opened.l1.clear()
    assert await remember.get("key:7") == [CANARY, 7]


async def test_the_embedded_store_holds_no_plain_word(tmp_path: Path) -> None:
    async with app(tmp_path, **ON) as opened:
        await fill(opened)
        assert CANARY.encode() not in on_disk(tmp_path)
    assert CANARY.encode() not in on_disk(tmp_path)
    assert KEY.encode() not in on_disk(tmp_path)
    async with app(tmp_path / "plain") as opened:
        await fill(opened)
        assert CANARY.encode() in on_disk(tmp_path)


async def test_the_journal_of_waiting_writes_holds_no_plain_word(tmp_path: Path) -> None:
    behind = {"CACHE_WRITE_STRATEGY": "WRITE_BACK", "CACHE_WRITE_BACK_JOURNAL": "true"}
    async with app(tmp_path, CACHE_WRITE_BACK_INTERVAL="60", **behind, **ON) as opened:
        assert await opened.remember.set("k", CANARY)
        assert await opened.remember.get("k") == CANARY
        assert list((tmp_path / "cache" / "journal").rglob("*"))
        assert CANARY.encode() not in on_disk(tmp_path)


async def test_redis_holds_no_plain_word(tmp_path: Path) -> None:
    async with redis_server() as server:
        redis = {"REDIS_URL": f"redis://127.0.0.1:{server.port}"}
        async with app(tmp_path, **redis, **ON) as opened:
            await fill(opened)
            admin = opened.redis_admin
            assert admin is not None
            async with admin.client() as client:
                names = [name async for name in client.scan_iter()]
                kinds = [await client.type(name) for name in names]
                assert b"string" in kinds or "string" in kinds
                raw = b"".join([await client.dump(name) or b"" for name in names])
                assert len(names) >= 23
                assert len(raw) > 1000
                assert CANARY.encode() not in raw
                assert base64.b64decode(KEY) not in raw
                salts = [name for name in names if b":meta:secret:salt:" in bytes(name)]
                assert len(salts) == 1


async def test_two_machines_with_one_key_share_entries_over_redis(tmp_path: Path) -> None:
    async with redis_server() as server:
        redis = {"REDIS_URL": f"redis://127.0.0.1:{server.port}"}
        async with (
            app(tmp_path / "a", **redis, **ON) as ours,
            app(tmp_path / "b", **redis, **ON) as theirs,
        ):
            assert await ours.remember.set("k", CANARY)
            assert await theirs.remember.get("k") == CANARY
        stranger = {**ON, "CACHE_ENCRYPTION_KEY": base64.b64encode(bytes(range(32))).decode()}
        async with app(tmp_path / "c", **redis, **stranger) as other:
            assert await other.remember.get("k") is None
            assert await other.remember.set("k", "theirs")
            assert await other.remember.get("k") == "theirs"


@pytest.mark.parametrize("first", [ON, {}], ids=["on_first", "off_first"])
async def test_switching_never_gives_a_wrong_value(tmp_path: Path, first: dict[str, str]) -> None:
    settings = [first, {} if first else ON] * 2
    for turn, wanted in enumerate(settings):
        async with app(tmp_path, **wanted) as opened:
            found = await opened.remember.get("k")
            assert found is None
            assert await opened.remember.get_or_compute("k", partial(load, turn)) == [CANARY, turn]
            opened.l1.clear()
            assert await opened.remember.get("k") == [CANARY, turn]


async def load(turn: int) -> list[object]:
    return [CANARY, turn]


async def test_an_entry_moved_swapped_or_cut_is_a_miss(tmp_path: Path) -> None:
    async with app(tmp_path, **ON) as opened:
        for name in ("one", "two"):
            assert await opened.remember.set(name, name)
        one, two = (opened.namer.raw(name) for name in ("one", "two"))
        first, second = await stored(opened, one), await stored(opened, two)
        for wrong in (second, first[:-1], first[:60], b"", first[:50] + second[50:]):
            await put(opened, one, wrong)
            assert await opened.remember.get("one") is None
        flipped = bytearray(first)
        flipped[-20] ^= 1
        await put(opened, one, bytes(flipped))
        assert await opened.remember.get("one") is None
        await put(opened, one, first)
        assert await opened.remember.get("one") == "one"


async def test_kinds_may_differ(tmp_path: Path) -> None:
    settings = {**ON, "FILE_CACHE_ENCRYPTION": "false"}
    async with app(tmp_path, **settings) as opened:
        assert await opened.remember.set("file:a", CANARY)
        assert await opened.remember.set("search:a", CANARY)
        assert CANARY.encode() in await stored(opened, opened.namer.raw("file:a"))
        assert CANARY.encode() not in await stored(opened, opened.namer.raw("search:a"))
    only = {"SEARCH_CACHE_ENCRYPTION": "true", "CACHE_ENCRYPTION_KEY": KEY}
    async with app(tmp_path / "only", **only) as opened:
        assert await opened.remember.set("other", CANARY)
        assert await opened.remember.set("search:a", CANARY)
        assert CANARY.encode() in await stored(opened, opened.namer.raw("other"))
        assert CANARY.encode() not in await stored(opened, opened.namer.raw("search:a"))


async def test_forgetting_a_project_drops_its_salt_and_no_other(tmp_path: Path) -> None:
    async with app(tmp_path, **ON) as opened:
        names = [opened.namer.raw("k", Scope(project)) for project in ("gone", "kept")]
        seal = opened.seal
        assert seal is not None
        policy = opened.policies[opened.namer.kind_of(names[0])]
        assert await opened.core.put(dict.fromkeys(names, CANARY), policy) == [True, True]
        gone, kept = [await stored(opened, name) for name in names]
        await opened.forget("gone")
        await put(opened, names[0], gone)
        await put(opened, names[1], kept)
        answers = [await opened.core.get(name, policy) for name in names]
        assert [answer.found for answer in answers] == [False, True]


async def test_what_could_not_be_forgotten_can_be_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with app(tmp_path, **ON) as opened:
        name = opened.namer.raw("k", Scope("gone"))
        policy = opened.policies[opened.namer.kind_of(name)]
        assert await opened.core.put({name: CANARY}, policy) == [True]
        opened.query_log.record("gone", Question(CANARY, None))

        async def down(_name: str) -> bool:
            raise TierError("no L2, as told")

        with monkeypatch.context() as patch:
            patch.setattr(opened.core.l2, "drop_secret", down)
            with pytest.raises(TierError):
                await opened.forget("gone")
        assert not opened.query_log.popular("gone")
        assert await opened.forget("gone")
        assert not await opened.forget("gone")


async def test_without_a_key_the_start_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        async with app(tmp_path, CACHE_ENCRYPTION_ENABLED="true"):
            pass
    assert "querycache key generate" in caught.value.remedy


async def test_a_tier_that_is_down_costs_the_caller_nothing(tmp_path: Path) -> None:
    dead = {"REDIS_URL": "redis://127.0.0.1:1"}
    async with app(tmp_path, **dead, **ON) as opened:
        assert await opened.remember.get_or_compute("k", partial(load, 1)) == [CANARY, 1]
        await opened.remember.set("j", CANARY)
        assert await opened.remember.get("j") == CANARY
        assert (await opened.status.health()).status != "healthy"
