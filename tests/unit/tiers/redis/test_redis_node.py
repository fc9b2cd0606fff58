"""A node: one attempt for all who wait, down at once, back by itself, and what it tells of it."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import pytest
from tests.redis_kit import redis_server, until
from tests.scripted_redis import MODERN, Client, ScriptedRedis, scripted_redis

from querycache.clock import SystemClock
from querycache.errors import TierError
from querycache.ports.tiers import Pool
from querycache.tiers.redis.connection import Connection, Limits
from querycache.tiers.redis.endpoint import Endpoint
from querycache.tiers.redis.greeting import pack
from querycache.tiers.redis.link import (
    DeadlineError,
    Greeting,
    Reply,
    Request,
    UnreachableError,
)
from querycache.tiers.redis.node import Accept, RedisNode, Resolve, fixed
from querycache.tiers.redis.single import SingleLink

pytestmark = [pytest.mark.asyncio, pytest.mark.live]

GET = pack("GET", "k")
TRACKED = Greeting(prefixes=(b"a:",))
ANSWERING = {**MODERN, b"GET": b"+v\r\n"}


class Listening:
    """Notes what a node tells."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.channels: list[object] = []

    def joined(self, channel: object, *, late: bool = False) -> None:
        assert not late
        self.channels.append(channel)
        self.notes.append("joined")

    def left(self, channel: object, *, gone: bool) -> None:
        assert channel is self.channels[-1]
        self.notes.append("gone" if gone else "left")

    def heard(self, push: list[object]) -> None:
        self.notes.append(repr(push))


@asynccontextmanager
async def node_at(
    resolve: Endpoint | Resolve,
    *,
    greeting: Greeting = TRACKED,
    listener: Listening | None = None,
    accept: Accept | None = None,
    limits: Limits | None = None,
) -> AsyncGenerator[RedisNode]:
    node = RedisNode(
        fixed(resolve) if isinstance(resolve, Endpoint) else resolve,
        greeting,
        clock=SystemClock(),
        listener=listener,
        accept=accept,
        limits=limits,
    )
    try:
        yield node
    finally:
        await node.close()


def at(server: ScriptedRedis) -> Endpoint:
    return Endpoint("127.0.0.1", server.port)


async def ask(node: RedisNode) -> list[Reply] | TierError:
    try:
        return await node.call(GET)
    except TierError as error:
        return error


async def up(node: RedisNode) -> None:
    async def connected() -> bool:
        return node.connection is not None

    await until(connected, "a connection")


async def down(node: RedisNode) -> None:
    async def lost() -> bool:
        return node.connection is None

    await until(lost, "its loss")


async def test_it_connects_when_first_needed_and_once_for_all_who_wait():
    async with scripted_redis(ANSWERING) as server, node_at(at(server)) as node:
        assert not server.clients
        assert await asyncio.gather(*(ask(node) for _ in range(100))) == [[b"v"]] * 100
        assert len(server.clients) == 1
        assert node.where == f"127.0.0.1:{server.port}"
        assert node.pool() == Pool(created=1, available=1, in_use=0, most=1)


async def test_the_listener_hears_of_a_channel_before_any_call_travels_on_it():
    listener = Listening()

    def get(client: Client, words: list[bytes]) -> bytes:
        del client, words
        listener.notes.append("call")
        return b"+v\r\n"

    async with (
        scripted_redis({**MODERN, b"GET": get}) as server,
        node_at(at(server), listener=listener) as node,
    ):
        await node.call(GET)
        server.clients[0].reset()
        await down(node)
        await up(node)
        await node.call(GET)
        await node.close()
    assert listener.notes == ["joined", "call", "left", "joined", "call", "gone"]


async def test_a_deaf_connection_is_no_channel():
    listener = Listening()
    deaf = {**ANSWERING, b"CLIENT": b"-ERR no\r\n"}
    async with (
        scripted_redis(deaf) as server,
        node_at(at(server), listener=listener) as node,
    ):
        assert await node.call(GET) == [b"v"]
    assert not listener.notes


async def test_while_down_calls_fail_at_once_and_say_why():
    async with scripted_redis() as server:
        endpoint = at(server)
    async with node_at(endpoint) as node:
        why = f"Error connecting to Redis at {endpoint.where}: refused"
        errors = await asyncio.gather(*(ask(node) for _ in range(10)))
        assert {str(error) for error in errors} == {why}
        assert len({id(error) for error in errors}) == len(errors)
        started = time.perf_counter()
        for _ in range(1000):
            with pytest.raises(UnreachableError, match="refused"):
                node.call(GET)
        assert time.perf_counter() - started < 1.0  # a thousand of them
        assert node.pool() == Pool(most=1)


async def test_it_comes_back_by_itself():
    async with redis_server() as server, node_at(Endpoint(path=str(server.socket))) as node:
        assert await node.call(pack("SET", "k", 1)) == [b"OK"]
        await server.kill()
        await down(node)
        assert isinstance(await ask(node), UnreachableError)
        await server.start()
        await up(node)
        assert await node.call(GET) == [None]
        assert node.opened == 2


async def test_a_server_that_does_not_greet_costs_the_first_callers_a_deadline_and_no_more():
    limits = Limits(deadline_s=0.1, patience_s=5.0)
    silent = {**ANSWERING, b"HELLO": b""}
    async with scripted_redis(silent) as server, node_at(at(server), limits=limits) as node:
        errors = await asyncio.gather(*(ask(node) for _ in range(5)))
        assert all(isinstance(error, DeadlineError) for error in errors)
        with pytest.raises(UnreachableError, match="no answer within 100 ms"):
            node.call(GET)
        link = SingleLink(node)
        assert [str(error) for error in await link.call_many([Request(b"k", GET)])] == [
            f"Error connecting to Redis at {node.where}: no answer within 100 ms"
        ]
        assert len(server.clients) == 1
        server.clients[0].write(b"%0\r\n")  # it wakes up: the same attempt succeeds
        await up(node)
        assert await node.call(GET) == [b"v"]
        assert len(server.clients) == 1


async def test_calls_that_run_out_of_time_open_the_breaker_and_a_ping_closes_it():
    limits = Limits(deadline_s=0.3)

    def later(client: Client, words: list[bytes]) -> bytes:
        del words
        asyncio.get_running_loop().call_later(0.4, client.write, b"+late\r\n")
        return b""

    async with (
        scripted_redis({**MODERN, b"GET": later}) as server,
        node_at(at(server), limits=limits) as node,
    ):
        await node.reach()
        errors = await asyncio.gather(*(ask(node) for _ in range(3)))
        assert all(isinstance(error, DeadlineError) for error in errors)
        with pytest.raises(UnreachableError, match="is too slow"):
            node.call(GET)
        server.answers[b"GET"] = b"+v\r\n"
        await up(node)
        assert await node.call(GET) == [b"v"]
        assert [b"PING"] in server.said
        assert len(server.clients) == 1  # pushes went on all the time


async def test_error_replies_of_the_server_are_no_failures():
    busy = {**MODERN, b"GET": b"-OOM command not allowed\r\n"}
    async with scripted_redis(busy) as server, node_at(at(server)) as node:
        for _ in range(20):
            (reply,) = await node.call(GET)
            assert str(reply) == "OOM command not allowed"
        assert node.connection is not None


async def test_where_it_is_is_asked_at_each_attempt():
    async with scripted_redis(ANSWERING) as old, scripted_redis(ANSWERING) as new:
        places = [at(old)]

        async def resolve() -> Endpoint:
            return places[-1]

        async with node_at(resolve) as node:
            await node.call(GET)
            places.append(at(new))
            old.clients[0].reset()
            await down(node)
            await up(node)
            assert await node.call(GET) == [b"v"]
            assert node.where == at(new).where
            assert len(new.clients) == 1


async def test_who_can_not_tell_where_it_is_is_asked_again():
    async with scripted_redis(ANSWERING) as server:
        errors = [UnreachableError("no primary"), AttributeError("x")]

        async def resolve() -> Endpoint:
            if errors:
                raise errors.pop(0)
            return at(server)

        async with node_at(resolve) as node:
            error = await ask(node)
            assert str(error) == "no primary"
            await up(node)
            assert await node.call(GET) == [b"v"]


async def test_a_connection_that_is_not_accepted_is_closed_and_never_used():
    listener = Listening()
    refusals = [UnreachableError("Redis at x is a replica")]

    async def accept(connection: Connection) -> None:
        assert await connection.call(pack("PING")) == [b"PONG"]
        if refusals:
            raise refusals.pop()

    async with (
        scripted_redis(ANSWERING) as server,
        node_at(at(server), listener=listener, accept=accept) as node,
    ):
        assert str(await ask(node)) == "Redis at x is a replica"
        await up(node)
        assert await node.call(GET) == [b"v"]
        assert len(server.clients) == 2
        assert [b"GET", b"k"] not in server.clients[0].said
        assert listener.notes == ["joined"]


async def test_who_is_cancelled_while_connecting_cancels_nobody_else():
    silent = {**ANSWERING, b"HELLO": b""}
    limits = Limits(deadline_s=5.0)
    async with scripted_redis(silent) as server, node_at(at(server), limits=limits) as node:
        callers = [asyncio.ensure_future(ask(node)) for _ in range(10)]
        while not server.said:  # noqa: ASYNC110 -- the server is in this loop
            await asyncio.sleep(0)
        for caller in callers[::2]:
            caller.cancel()
        server.clients[0].write(b"%0\r\n")
        results = await asyncio.gather(*callers, return_exceptions=True)
        assert results[1::2] == [[b"v"]] * 5
        assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])


async def test_a_closed_node_is_closed_and_may_be_closed_again():
    async with scripted_redis(ANSWERING) as server, node_at(at(server)) as node:
        never = RedisNode(fixed(at(server)), TRACKED, clock=SystemClock())
        await never.close()
        await node.call(GET)
        await node.close()
        await node.close()
        for each in (node, never):
            assert "closed here" in str(await ask(each))


def loops_end(endpoint: Endpoint, listener: Listening, *, by_run: bool) -> RedisNode:
    """A node whose loop ends while it is connected, without anybody closing it."""
    node = RedisNode(fixed(endpoint), TRACKED, clock=SystemClock(), listener=listener)

    async def use() -> None:
        with suppress(TierError):
            await node.call(GET)

    if by_run:
        asyncio.run(use())
    else:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(use())
        loop.close()
    return node


async def test_it_ends_quietly_with_its_loop():
    listener = Listening()
    async with scripted_redis(ANSWERING) as server:
        node = await asyncio.to_thread(loops_end, at(server), listener, by_run=True)
        assert node.connection is None
        assert listener.notes == ["joined", "gone"]
        gc.collect()  # nothing that was left open warns
    nobody = at(server)
    await asyncio.to_thread(loops_end, nobody, listener, by_run=True)
    node = await asyncio.to_thread(loops_end, nobody, listener, by_run=False)
    del node
    gc.collect()


async def test_a_context_of_a_caller_does_not_leak_into_the_node():
    seen: list[str] = []
    async with scripted_redis(ANSWERING) as server:

        async def resolve() -> Endpoint:
            task = asyncio.current_task()
            assert task is not None
            seen.append(task.get_name())
            return at(server)

        async with node_at(resolve) as node:
            caller = asyncio.ensure_future(ask(node))
            await caller
            caller.cancel()
            assert await node.call(GET) == [b"v"]
    assert seen == ["querycache: Redis connection"]


# the link


async def test_a_single_link():
    async with redis_server() as server, node_at(Endpoint(path=str(server.socket))) as node:
        link = SingleLink(node)
        results = await link.call_many(
            [Request(b"k", pack("SET", "k", 1)), Request(b"k", GET + GET, 2)]
        )
        assert results == [[b"OK"], [b"1", b"1"]]
        assert await link.call(Request(b"k", GET)) == [b"1"]
        assert await link.everywhere(pack("DBSIZE")) == [[1]]
        assert [each.where for each in link.nodes()] == [str(server.socket)]
        await link.close()
        (error,) = await link.call_many([Request(b"k", GET)])
        assert isinstance(error, UnreachableError)


async def test_of_many_calls_each_has_its_own_end():
    def last(client: Client, words: list[bytes]) -> bytes:
        del words
        client.reset()
        return b""

    script = {**ANSWERING, b"LAST": last}
    async with scripted_redis(script) as server, node_at(at(server)) as node:
        link = SingleLink(node)
        await node.reach()
        first, second, third = await link.call_many(
            [Request(b"k", GET), Request(b"k", pack("LAST")), Request(b"k", GET)]
        )
        assert isinstance(second, UnreachableError)
        assert isinstance(third, UnreachableError)
        assert first == [b"v"] or isinstance(first, UnreachableError)


async def test_who_is_cancelled_among_many_leaves_with_all_of_them():
    silent = {**MODERN, b"GET": b""}
    limits = Limits(deadline_s=5.0)
    async with scripted_redis(silent) as server, node_at(at(server), limits=limits) as node:
        connection = await node.reach()
        many = asyncio.ensure_future(SingleLink(node).call_many([Request(b"k", GET)] * 3))
        while connection.waiting < 3:  # noqa: ASYNC110 -- the other is in this loop
            await asyncio.sleep(0)
        many.cancel()
        with pytest.raises(asyncio.CancelledError):
            await many
        server.answers[b"ECHO"] = b"+mine\r\n"
        echo = node.call(pack("ECHO"))
        server.clients[0].write(b"+1\r\n+2\r\n+3\r\n")
        assert await echo == [b"mine"]
