"""Clean-ups: a kind goes everywhere, others stay, and what is not ours is not touched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.redis_kit import redis_server
from tests.unit.usecases.app_kit import app_at

from querycache.errors import TierError
from querycache.values import Kind, Stamp

pytestmark = pytest.mark.asyncio

KEYS = ("search:a", "file:/x", "project:p", "embedding:e", "health_check", "perf_test_1")


@pytest.mark.parametrize("backend", ["sqlite", "redis"])
async def test_a_kind_goes_in_every_process(tmp_path: Path, backend: str) -> None:
    async with redis_server() as server:
        settings = {"REDIS_URL": server.url} if backend == "redis" else {}
        async with (
            app_at(tmp_path / "home", **settings) as one,
            app_at(tmp_path / "home", **settings) as two,
        ):
            for key in KEYS:
                await one.remember.set(key, key)
            for app in (one, two):
                assert len(await app.remember.get_batch(KEYS)) == len(KEYS)
            told: list[tuple[Kind, int]] = []
            done = await two.clean_up(
                [Kind.SEARCH, Kind.FILE], lambda kind, count: told.append((kind, count))
            )
            assert done.deleted == {"search": 1, "file": 1}
            assert told == [(Kind.SEARCH, 1), (Kind.FILE, 1)]
            assert done.told
            for app in (one, two):
                assert set(await app.remember.get_batch(KEYS)) == set(KEYS[2:])
            everything = await one.clean_up.everything()
            assert sum(everything.deleted.values()) == 4
            for app in (one, two):
                assert await app.remember.get_batch(KEYS) == {}


async def test_foreign_keys_and_other_prefixes_stay(tmp_path: Path) -> None:
    async with redis_server() as server:
        theirs_too = {"REDIS_URL": server.url, "CACHE_KEY_PREFIX": "theirs"}
        async with (
            app_at(tmp_path / "a", REDIS_URL=server.url) as ours,
            app_at(tmp_path / "b", **theirs_too) as theirs,
        ):
            assert ours.redis_admin is not None
            async with ours.redis_admin.client() as client:
                await client.set("foreign", "1")
                await client.set("codebase_rag:strange", "1")
                await client.set("codebase_ragged:other:_:x", "1")
                await ours.remember.set("x", 1)
                await theirs.remember.set("x", 2)
                done = await ours.clean_up.everything()
                assert done.deleted["other"] == 2
                left = {name.decode() async for name in client.scan_iter()}
        kept = {name for name in left if ":meta:" not in name}
        assert kept == {"foreign", "codebase_ragged:other:_:x", "theirs:other:_:x"}


async def test_many_go_in_batches(tmp_path: Path) -> None:
    async with app_at(tmp_path / "home") as app:
        await app.remember.set_batch({f"k{n}": n for n in range(1300)})
        assert (await app.clean_up([Kind.OTHER])).deleted == {"other": 1300}


async def test_a_tier_that_is_slow_once_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with app_at(tmp_path / "home") as app:
        await app.remember.set("search:a", 1)
        real, failures = app.core.l2.bump, iter((TierError("too slow"),))

        async def bump(tags: Sequence[str]) -> dict[str, Stamp]:
            if (error := next(failures, None)) is not None:
                raise error
            return await real(tags)

        monkeypatch.setattr(app.core.l2, "bump", bump)
        done = await app.clean_up([Kind.SEARCH, Kind.FILE])
        assert (done.told, done.deleted) == (True, {"search": 1, "file": 0})
