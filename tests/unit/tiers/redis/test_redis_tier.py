"""The tier over a Redis keeps what every L2 promises, and what only a server asks for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.crc import key_slot
from tests.behaviour.l2_suite import L2Suite, Pair
from tests.redis_kit import RedisServer, redis_server
from tests.redis_tier_kit import CLOCK, PREFIX, entry, tier_at, two_tiers, value

from querycache.errors import TierError
from querycache.ports.tiers import Write
from querycache.testing import FakeClock
from querycache.tiers.redis import RedisTier
from querycache.tiers.redis.link import Greeting, Link, Listener, RefusedError
from querycache.tiers.redis.names import POSTS, Names

pytestmark = [pytest.mark.asyncio, pytest.mark.live]

NAMES = Names(PREFIX)


@asynccontextmanager
async def one_tier(*options: str) -> AsyncGenerator[tuple[RedisServer, RedisTier]]:
    async with redis_server(*options) as server:
        tier = tier_at(server)
        try:
            yield server, tier
        finally:
            await tier.close()


class TestRedisTier(L2Suite):
    guards_tags = False

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncGenerator[Pair]:
        del folder
        async with redis_server() as server, two_tiers(server) as pair:
            yield pair

    def wall(self) -> float:
        return CLOCK.wall()

    async def pass_time(self, seconds: float) -> None:
        await CLOCK.sleep(seconds)  # the clock is the server's


async def test_what_is_stored_expires_by_what_is_left_whatever_our_clock_says() -> None:
    async with redis_server() as server:
        for shift in (-36_000.0, 0.0, 36_000.0):
            clock = FakeClock(wall=CLOCK.wall() + shift)
            tier = tier_at(server, clock=clock)
            await tier.write(
                [
                    Write("told", b"1", clock.wall() + 100.0),
                    Write("untold", b"1", clock.wall() + 100.0, tell=False),
                ]
            )
            for name in ("told", "untold"):
                assert 99_000 < await server.ask("PTTL", name) <= 100_000
            (listing,) = [one async for one in tier.scan("told")]
            assert listing.expires_at == pytest.approx(clock.wall() + 100.0, abs=1.0)
            await tier.close()


async def test_what_is_over_already_takes_the_old_value_with_it() -> None:
    async with one_tier() as (_, tier):
        await tier.write([entry("told"), entry("untold", tell=False)])
        over = CLOCK.wall() - 1.0
        writes = [Write("told", b"2", over), Write("untold", b"2", over, tell=False)]
        assert await tier.write(writes) == [True, True]
        assert await value(tier, "told") is None
        assert await value(tier, "untold") == b"value"  # it never differs
        guard = (await tier.read(["told"]))[0].guard
        await tier.write([entry("told")])
        assert await tier.write([Write("told", b"2", over, (), guard)]) == [False]
        assert await value(tier, "told") == b"value"


async def test_one_read_is_one_command_once_its_slot_is_known() -> None:
    async with one_tier() as (server, tier):
        names = [f"k:{number}" for number in range(100)]
        await tier.write([entry(name, tell=False) for name in names])
        await tier.read(names)
        before = await commands(server)
        await tier.read(["k:1"])
        await tier.read(names)
        await tier.read(["k:1"], fenced=False)
        await tier.read(names, fenced=False)
        assert await commands(server) - before == {"mget": 3, "get": 1}


_ASKERS = frozenset({"info", "ping"})  # what asks for the counts


class Counts(dict[str, int]):
    def __sub__(self, other: Counts) -> dict[str, int]:
        found = {name: self[name] - other.get(name, 0) for name in self}
        return {name: count for name, count in found.items() if count and name not in _ASKERS}


async def commands(server: RedisServer) -> Counts:
    """How often each command was executed, from scripts too."""
    said = await server.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): text for name, text in said.items()}
    return Counts((name, int(text.split(",")[0][6:])) for name, text in calls.items())


async def test_a_guard_is_what_was_read_with_the_entry() -> None:
    async with one_tier() as (server, tier):
        assert tier.witnessed("k") is None
        (read,) = await tier.read(["k"])
        version = NAMES.version(key_slot(b"k"))
        assert int(await server.ask("GET", version)) == read.guard == tier.witnessed("k")
        await tier.write([entry("k", guard=read.guard)])
        moved = int(await server.ask("GET", version))
        assert moved != read.guard
        assert tier.witnessed("k") == moved == (await tier.read(["k"]))[0].guard
        await tier.remove(["k"])
        assert tier.witnessed("k") == int(await server.ask("GET", version)) != moved
        assert tier.witnessed("\ud800") is None


async def test_of_a_batch_none_refuses_the_next_of_its_slot() -> None:
    async with one_tier() as (_, tier):
        keys = ["{slot}:1", "{slot}:2", "{slot}:3"]
        (guard, *_) = {read.guard for read in await tier.read(keys)}
        writes = [entry(key, guard=guard) for key in keys]
        assert await tier.write([*writes, writes[0]]) == [True, True, True, False]
        assert await tier.write(writes) == [False, False, False]
        (guard, *_) = {read.guard for read in await tier.read(keys)}
        await tier.remove([keys[2]])
        assert await tier.write([entry(key, guard=guard) for key in keys]) == [False] * 3


async def test_a_version_that_was_lost_never_comes_back() -> None:
    async with one_tier() as (server, tier):
        keys = [f"k:{number}" for number in range(5)]
        guards = [read.guard for read in await tier.read(keys)]
        for key in keys:
            assert await server.ask("DEL", NAMES.version(key_slot(key.encode())))
        writes = [entry(key, guard=guard) for key, guard in zip(keys, guards, strict=True)]
        assert await tier.write(writes[:2]) == [False, False]
        later = [read.guard for read in await tier.read(keys)]
        assert not set(later) & set(guards)
        assert await tier.write(writes) == [False] * 5
        assert await tier.write([entry(keys[0], guard=later[0])]) == [True]


async def test_a_counter_that_was_lost_never_comes_back() -> None:
    async with one_tier() as (server, tier):
        seen = {(await tier.stamps(["t"]))["t"]}
        for _ in range(5):
            await server.ask("DEL", NAMES.counter("t"))
            seen.add((await tier.stamps(["t"]))["t"])
            await server.ask("DEL", NAMES.counter("t"))
            seen.add((await tier.bump(["t"]))["t"])
        assert len(seen) == 11


@pytest.mark.parametrize("garbage", [b"", b"x", b"-5", b"1" * 30, b"1.5"])
async def test_a_number_that_a_stranger_spoiled_is_made_anew(garbage: bytes) -> None:
    async with one_tier() as (server, tier):
        await server.ask("SET", NAMES.counter("t"), garbage)
        await server.ask("SET", NAMES.version(key_slot(b"k")), garbage)
        stamp = (await tier.stamps(["t"]))["t"]
        assert (await tier.stamps(["t"]))["t"] == stamp
        guard = (await tier.read(["k"]))[0].guard
        assert await tier.write([entry("k", guard=guard)]) == [True]


async def test_what_is_no_string_is_not_there_and_is_replaced() -> None:
    async with one_tier() as (server, tier):
        for fenced in (True, False):
            await server.ask("DEL", "k")
            await server.ask("LPUSH", "k", "1")
            for keys in (["k"], ["k", "absent"]):
                reads = await tier.read(keys, fenced=fenced)
                assert [read.data for read in reads] == [None] * len(keys)
            assert [one async for one in tier.scan("k")] == []
            await tier.write([entry("k", tell=fenced)])
            assert await value(tier, "k") == b"value"


async def test_a_server_that_forgot_the_scripts_is_told_them_again() -> None:
    async with one_tier() as (server, tier):
        await tier.read(["k"])
        for _ in range(2):
            await server.ask("SCRIPT", "FLUSH")
            assert await tier.write([entry("k"), entry("u", tell=False), entry("l")]) == [True] * 3
            await server.ask("SCRIPT", "FLUSH")
            assert await tier.remove(["k", "absent"]) == 1
            await server.ask("SCRIPT", "FLUSH")
            await tier.bump(["t"])
            await server.ask("SCRIPT", "FLUSH")
            assert await tier.renew("k", "nobody's", 1.0) is False
        assert int(await server.ask("GET", NAMES.sequence)) == 2 * 5


async def test_a_value_beyond_the_limit_is_not_sent() -> None:
    async with redis_server() as server:
        tier = tier_at(server, max_bytes=1000)
        await tier.read(["k"])
        before = await commands(server)
        with pytest.raises(TierError, match="1001 bytes are too many"):
            await tier.write([entry("small"), entry("k", bytes(1001))])
        assert await commands(server) - before == {}
        assert await tier.write([entry("k", bytes(1000))]) == [True]
        await tier.close()


async def test_only_entries_are_listed_and_purged() -> None:
    async with one_tier() as (server, tier):
        names = ["a*", "a*b", "ab", "a[b]", "a?", "a\\", "a\\*", "b"]
        await tier.write([entry(f"{PREFIX}:{name}", name.encode()) for name in names])
        await tier.bump(["t"])
        assert await tier.lease("a", 60.0)
        await server.ask("SET", f"{PREFIX}:other:_:a strangers", "12345")
        for name in names:
            found = {one.key async for one in tier.scan(f"{PREFIX}:{name}")}
            wanted = {f"{PREFIX}:{n}" for n in names if n.startswith(name)}
            assert found == wanted, name
        (stranger,) = [one async for one in tier.scan(f"{PREFIX}:other:")]
        assert (stranger.size, stranger.expires_at) == (5, math.inf)
        before = await server.ask("DBSIZE")
        assert await tier.purge(f"{PREFIX}:a*") == 2
        assert await tier.purge(f"{PREFIX}:") == len(names) - 2 + 1
        assert await server.ask("DBSIZE") == before - len(names) - 1
        left = [name.decode() for name in await server.ask("KEYS", "*")]
        assert all(name.startswith(f"{PREFIX}:meta:") for name in left)
        assert (await commands(server)).get("del", 0) < 50


async def test_info_is_the_servers_own() -> None:
    async with one_tier("--maxmemory", "50mb") as (server, tier):
        await tier.write([entry("k", tell=False)])
        info = await tier.info()
        assert (info.backend, info.connected, info.error) == ("redis", True, "")
        assert info.where == f"127.0.0.1:{server.port}"
        assert info.max_bytes == 50 * 1024 * 1024
        assert info.entries == 1
        assert info.memory_bytes
        assert info.memory_peak_bytes
        assert info.memory_peak_bytes >= info.memory_bytes > 100_000
        assert info.ping_ms is not None
        assert info.pool is not None
        assert info.pool.created == 1
        await server.kill()
        info = await tier.info()
        assert not info.connected
        assert info.where == f"127.0.0.1:{server.port}"
        assert info.where in info.error
        assert info.error.endswith("; look into the server's log and its load")


async def test_a_server_that_is_not_there_is_an_error_of_the_tier() -> None:
    async with one_tier() as (server, tier):
        await server.kill()
        works = (
            tier.read(["k"]),
            tier.read(["k", "l"], fenced=False),
            tier.write([entry("k")]),
            tier.write([entry("k"), entry("l", tell=False)]),
            tier.remove(["k"]),
            tier.stamps(["t"]),
            tier.bump(["t", "u"]),
            tier.lease("k", 1.0),
            tier.renew("k", "t", 1.0),
            tier.release("k", "t"),
            tier.purge("k"),
        )
        for work in works:
            with pytest.raises(TierError, match=f"127.0.0.1:{server.port}"):
                await work
        with pytest.raises(TierError):
            _ = [one async for one in tier.scan()]


class Spoiled:
    """A link that does what no link may do."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def nodes(self) -> list[object]:
        return []

    def __getattr__(self, name: str) -> object:
        raise self.error


async def test_whatever_breaks_is_an_error_of_the_tier() -> None:
    for error in (RuntimeError("Event loop is closed"), AttributeError("writelines"), OSError(9)):

        def open_link(greeting: Greeting, listener: Listener, error: Exception = error) -> Link:
            del greeting, listener
            return Spoiled(error)  # pyright: ignore[reportReturnType]  # that is the point

        tier = RedisTier(open_link, prefix=PREFIX, clock=CLOCK)
        for work in (tier.read(["k"]), tier.write([entry("k")]), tier.stamps(["t"])):
            with pytest.raises(TierError) as caught:
                await work
            assert caught.value.__cause__ is not None
    with pytest.raises(TierError, match="surrogates"):
        await tier.read(["\ud800"])


async def test_what_is_no_text_is_not_there_and_hinders_no_other_removal() -> None:
    async with one_tier() as (_, tier):
        await tier.write([entry("k")])
        assert await tier.remove(["\ud800", "k"]) == 1
        assert await tier.remove(["\ud800"]) == 0


async def test_a_refusal_says_what_the_server_said() -> None:
    async with redis_server() as server:
        rules = ("on", ">reader", "~*", "&*", "+@all", "-set", "-mget")
        await server.ask("ACL", "SETUSER", "reader", *rules)
        tier = tier_at(server, user="reader")
        with pytest.raises(RefusedError, match="NOPERM") as caught:
            await tier.read(["k"])
        assert caught.value.code == "NOPERM"
        assert f"127.0.0.1:{server.port}" in str(caught.value)
        with pytest.raises(RefusedError):
            await tier.write([entry("k", tell=False)])
        with pytest.raises(RefusedError):
            await tier.write([entry("k")])
        assert await server.ask("EXISTS", "k") == 0
        await tier.close()


async def test_who_is_cancelled_leaves_the_others_their_replies() -> None:
    async with one_tier() as (_, tier):
        names = [f"k:{number}" for number in range(200)]
        await tier.write([entry(name, name.encode()) for name in names])
        tasks = [asyncio.ensure_future(tier.read([name])) for name in names]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        for place, read in enumerate(found):
            if place % 3:
                assert not isinstance(read, BaseException)
                assert read[0].data == names[place].encode()
            else:
                assert isinstance(read, asyncio.CancelledError)
        pool = (await tier.info()).pool
        assert pool is not None
        assert pool.created == 1


async def test_after_close_it_says_so() -> None:
    async with one_tier() as (_, tier):
        await tier.read(["k"])
        await tier.close()
        with pytest.raises(TierError, match="was closed"):
            await tier.read(["k"])
        assert not (await tier.info()).connected


async def test_a_post_ends_by_itself_and_a_full_board_takes_no_more() -> None:
    async with redis_server() as server:
        first, second = tier_at(server), tier_at(server)
        await first.post("short", b"1", 0.05)
        async with asyncio.timeout(5.0):
            while await second.posts():
                await CLOCK.sleep(0.01)
        for number in range(POSTS):
            await first.post(f"p{number}", b"x", 100.0)
        await second.post("one more", b"x", 100.0)
        await second.post("too large", b"x" * 300_000, 100.0)
        assert set(await second.posts()) == {f"p{number}" for number in range(POSTS)}
        await first.post("p7", b"", 0.0)
        await second.post("one more", b"x", 100.0)
        assert "one more" in await first.posts()
        await first.close()
        await second.close()


async def test_who_lost_its_place_finds_another() -> None:
    async with redis_server() as server:
        first, second = tier_at(server), tier_at(server)
        await first.post("first", b"1", 0.05)
        async with asyncio.timeout(5.0):
            while await second.posts():
                await CLOCK.sleep(0.01)
        await second.post("second", b"2", 100.0)
        await first.post("first", b"1", 100.0)  # takes the place of the other, and sees it
        await second.post("second", b"2", 100.0)
        await first.post("first", b"1", 100.0)
        assert await first.posts() == {"first": b"1", "second": b"2"}
        await first.close()
        await second.close()
