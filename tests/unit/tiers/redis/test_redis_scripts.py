"""The scripts as a real server runs them: all or nothing, also out of memory and in a cluster."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import hiredis
import pytest
from tests.redis_kit import RedisServer, redis_server

from querycache.tiers.redis.names import Names, slot_of
from querycache.tiers.redis.scripts import (
    BUMP,
    CREATE,
    RELEASE,
    REMOVE,
    RENEW,
    STORE,
    TOUCH,
    Call,
    Script,
    Word,
)

pytestmark = [pytest.mark.asyncio, pytest.mark.live]

NAMES = Names("codebase_rag")
KEY = b"codebase_rag:other:_:k"
SOURCE = b"0123456789ab"
VERSION = NAMES.version(slot_of(KEY))
SHADOW = NAMES.shadow(slot_of(KEY), SOURCE, KEY)
ONE_NODE = (KEY, VERSION, SHADOW, NAMES.sequence)
IN_A_CLUSTER = ONE_NODE[:3]
MESSAGE = b" %b k %b" % (SOURCE, KEY)


async def run(server: RedisServer, script: Script, *words: Word, keys: tuple[bytes, ...]) -> Any:  # noqa: ANN401 -- many shapes
    return await server.ask("EVAL", script.source, len(keys), *keys, *words)


async def store(
    server: RedisServer,
    data: bytes,
    *,
    life: int = 60_000,
    guard: int | bytes = b"",
    version: int = 7,
    keys: tuple[bytes, ...] = ONE_NODE,
) -> Any:  # noqa: ANN401 -- many shapes
    words = (version, NAMES.channel, MESSAGE, data, life, guard)
    return await run(server, STORE, *words, keys=keys)


@asynccontextmanager
async def full_server() -> AsyncGenerator[RedisServer]:
    """Holds an entry, its version and a counter, and has no memory left."""
    async with redis_server("--maxmemory-policy", "noeviction") as server:
        await store(server, b"old")
        await server.ask("SET", NAMES.counter("t"), "1")
        await server.ask("CONFIG", "SET", "maxmemory", "500kb")
        with pytest.raises(hiredis.ReplyError, match="OOM"):
            await server.ask("SET", "another", "1")
        yield server


async def test_a_call_is_the_same_by_its_name_and_in_full() -> None:
    async with redis_server() as server:
        call = Call(CREATE, (b"n",), (5,))
        parser = hiredis.Reader()
        for request, first in ((call.request(), b"EVALSHA"), (call.in_full(), b"EVAL")):
            parser.feed(request.data)
            words: Any = parser.gets()
            assert words[0] == first
            assert words[2:] == [b"1", b"n", b"5"]
            assert (request.key, request.replies) == (b"n", 1)
        assert await server.ask("SCRIPT", "LOAD", CREATE.source) == CREATE.sha


@pytest.mark.parametrize("keys", [ONE_NODE, IN_A_CLUSTER])
async def test_a_stored_entry_has_a_life_and_moves_its_version(keys: tuple[bytes, ...]) -> None:
    async with redis_server() as server:
        assert await store(server, b"1", keys=keys) == 1
        assert await server.ask("GET", KEY) == b"1"
        assert 59_000 < await server.ask("PTTL", KEY) <= 60_000
        assert await server.ask("GET", VERSION) == b"7"
        assert await server.ask("EXISTS", SHADOW) == 0
        assert await server.ask("GET", NAMES.sequence) == (b"1" if len(keys) > 3 else None)


@pytest.mark.parametrize("guard", [6, 0, -7, 77, b"x"])
async def test_a_guard_that_does_not_hold_changes_nothing(guard: int | bytes) -> None:
    async with redis_server() as server:
        await store(server, b"1")
        before = await server.info("keyspace")
        assert await store(server, b"2", guard=guard, version=8) == 0
        assert await server.ask("MGET", KEY, VERSION) == [b"1", b"7"]
        assert await server.ask("GET", NAMES.sequence) == b"1"
        assert (await server.info("keyspace")).keys() == before.keys()
        assert await store(server, b"2", guard=7, version=8) == 1
        await server.ask("DEL", VERSION)
        assert await store(server, b"3", guard=8, version=9) == 0


async def test_a_life_that_is_over_deletes() -> None:
    async with redis_server() as server:
        await store(server, b"1")
        assert await store(server, b"", life=0, version=8) == 1
        assert await server.ask("MGET", KEY, VERSION) == [None, b"8"]


async def test_a_removal_counts_and_moves_the_version() -> None:
    async with redis_server() as server:
        await store(server, b"1")
        words = (8, NAMES.channel, MESSAGE)
        assert await run(server, REMOVE, *words, keys=ONE_NODE) == 1
        assert await run(server, REMOVE, *words, keys=ONE_NODE) == 0
        assert await server.ask("MGET", KEY, VERSION) == [None, b"8"]
        assert await server.ask("GET", NAMES.sequence) == b"3"


async def test_out_of_memory_a_refused_entry_takes_the_old_one_with_it() -> None:
    async with full_server() as server:
        with pytest.raises(hiredis.ReplyError, match="OOM"):
            await store(server, bytes(20_000), guard=7, version=8)
        assert await server.ask("MGET", KEY, VERSION) == [None, b"8"]
        assert await server.ask("GET", NAMES.sequence) == b"2"


async def test_out_of_memory_what_invalidates_still_works() -> None:
    async with full_server() as server:
        words = (8, NAMES.channel, MESSAGE)
        assert await run(server, REMOVE, *words, keys=ONE_NODE) == 1
        assert await server.ask("MGET", KEY, VERSION) == [None, b"8"]
        for tag, number in (("t", 2), ("a new one", 3)):
            keys = (NAMES.counter(tag), NAMES.sequence)
            assert await run(server, BUMP, number, NAMES.channel, b" s t n", keys=keys) == 1
            assert await server.ask("GET", NAMES.counter(tag)) == b"%d" % number
        assert await run(server, CREATE, 5, keys=(b"codebase_rag:meta:tag:newer",)) == b"5"


async def test_a_number_is_created_once() -> None:
    async with redis_server() as server:
        assert await run(server, CREATE, 5, keys=(b"n",)) == b"5"
        assert await run(server, CREATE, 6, keys=(b"n",)) == b"5"
        for garbage in (b"", b"x", b"-1", b"1" * 20):
            await server.ask("SET", "n", garbage)
            assert await run(server, CREATE, 7, keys=(b"n",)) == b"7"


async def test_a_lease_is_its_holders() -> None:
    async with redis_server() as server:
        await server.ask("SET", "lease", "mine", "PX", 60_000)
        assert await run(server, RENEW, b"theirs", 5, keys=(b"lease",)) == 0
        assert await run(server, RELEASE, b"theirs", keys=(b"lease",)) == 0
        assert await server.ask("PTTL", "lease") > 50_000
        assert await run(server, RENEW, b"mine", 90_000, keys=(b"lease",)) == 1
        assert await server.ask("PTTL", "lease") > 80_000
        assert await run(server, RELEASE, b"mine", keys=(b"lease",)) == 1
        assert await run(server, RENEW, b"mine", 90_000, keys=(b"lease",)) == 0


async def test_a_touch_leaves_nothing() -> None:
    async with redis_server() as server:
        assert await run(server, TOUCH, keys=(NAMES.probe(SOURCE),)) == 1
        assert await server.ask("DBSIZE") == 0
