"""Real faults between a node and its server: no wrong answer, no long wait, and back by itself.

Small by default; the same at full size with `-m soak`. Every call asks for an echo of a word that
was never asked for before, or for a value that follows from its name, so that a reply that went to
the wrong caller shows.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import resource
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import uvloop
from _pytest.mark.structures import ParameterSet
from tests.fault_proxy import FaultProxy, ProxyProcess, fault_proxy, proxy_process
from tests.redis_kit import RedisServer, redis_server, until

from querycache.clock import SystemClock
from querycache.errors import TierError
from querycache.tiers.redis.connection import Limits
from querycache.tiers.redis.endpoint import Endpoint
from querycache.tiers.redis.greeting import pack
from querycache.tiers.redis.link import DeadlineError, Greeting, UnreachableError
from querycache.tiers.redis.node import RedisNode, fixed

pytestmark = [pytest.mark.asyncio, pytest.mark.live, pytest.mark.alone]

SLACK_S = 0.5
"""For a busy machine: what a call may take beyond its deadline."""


NewLoop = Callable[[], asyncio.AbstractEventLoop]


def sizes(small: int, full: int) -> list[int | ParameterSet]:
    soak = (pytest.mark.soak, pytest.mark.timeout(1200))
    return [small, pytest.param(full, marks=soak)]


class Caller:
    """Asks through a node, and counts how that ends."""

    _words = itertools.count()

    def __init__(self, node: RedisNode) -> None:
        self.node = node
        self.ends: Counter[str] = Counter()
        self.longest_s = 0.0
        self.errors: list[TierError] = []

    async def echo(self) -> None:
        word = b"word-%d" % next(self._words)
        await self.ask(pack("ECHO", word), [word])

    async def echoes(self) -> None:
        """Three of them in one call."""
        words = [b"word-%d" % next(self._words) for _ in range(3)]
        await self.ask(b"".join(pack("ECHO", word) for word in words), words)

    async def ask(self, data: bytes, expected: list[bytes]) -> None:
        started = time.monotonic()
        try:
            replies = await self.node.call(data, len(expected))
        except TierError as error:
            self.errors.append(error)
            self.ends["late" if isinstance(error, DeadlineError) else "unreachable"] += 1
        else:
            self.ends["right" if replies == expected else "wrong"] += 1
        finally:
            self.longest_s = max(self.longest_s, time.monotonic() - started)


@asynccontextmanager
async def node_at(
    to: RedisServer | FaultProxy | ProxyProcess, limits: Limits | None = None
) -> AsyncGenerator[RedisNode]:
    node = RedisNode(
        fixed(Endpoint("127.0.0.1", to.port)),
        Greeting(prefixes=(b"a:",)),
        clock=SystemClock(),
        limits=limits,
    )
    try:
        yield node
    finally:
        await node.close()


async def up(node: RedisNode, patience_s: float = 10.0) -> None:
    async def connected() -> bool:
        return node.connection is not None

    await until(connected, "a connection", patience_s)


async def down(node: RedisNode) -> None:
    async def lost() -> bool:
        return node.connection is None

    await until(lost, "its loss")


def refused_at_once(node: RedisNode) -> UnreachableError:
    """Without waiting for anything."""
    with pytest.raises(UnreachableError) as caught:
        node.call(pack("ECHO", "x"))
    return caught.value


# cancelled calls


async def cancelled_somehow(caller: Caller, rng: random.Random) -> None:
    """One call, left in one of the ways that there are."""
    ask = rng.choice([caller.echo, caller.echoes])
    pause = rng.random() * 0.006
    way = rng.randrange(4)
    if way == 0:
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await ask()
        return
    task = asyncio.ensure_future(ask())
    await asyncio.sleep(pause if way < 3 else 0)
    task.cancel()
    if way == 2:
        await asyncio.sleep(0)
        task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("count", sizes(600, 10_000))
async def test_cancelled_calls_mix_nothing_up_and_cost_no_connection(count: int):
    rng = random.Random(20)
    async with (
        redis_server() as server,
        fault_proxy(server.address, seed=20) as proxy,
        node_at(proxy) as node,
    ):
        proxy.set(delay=0.001, jitter=0.004)
        caller = Caller(node)
        # while it connects and greets, too
        await asyncio.gather(*(cancelled_somehow(caller, rng) for _ in range(100)))
        left = count

        async def worker() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await cancelled_somehow(caller, rng)
                await caller.echo()

        await asyncio.gather(*(worker() for _ in range(48)))
        assert caller.ends["wrong"] == 0
        assert caller.ends["right"] >= count
        assert proxy.connections <= 10


async def test_a_task_group_that_is_broken_off_leaves_the_connection_in_order():
    async with (
        redis_server() as server,
        fault_proxy(server.address) as proxy,
        node_at(proxy) as node,
    ):
        proxy.set(delay=0.005)
        caller = Caller(node)
        await caller.echo()

        async def fails() -> None:
            await asyncio.sleep(0.002)
            raise KeyError

        async def ten_and_a_failure() -> None:
            async with asyncio.TaskGroup() as group:
                for call in (*(caller.echo() for _ in range(10)), fails()):
                    group.create_task(call)

        for _ in range(20):
            with pytest.raises(ExceptionGroup):
                await ten_and_a_failure()
            await caller.echo()
        assert caller.ends["right"] >= 21
        assert set(caller.ends) == {"right"}
        assert proxy.connections == 1


@pytest.mark.parametrize("count", sizes(10, 500))
async def test_a_loop_that_stood_still_past_the_time_out_mixes_nothing_up(count: int):
    deadline_s = 0.05
    async with redis_server() as server:
        with proxy_process(server.address, seed=21) as proxy:
            proxy.set(delay=0.001, jitter=0.004)
            async with node_at(proxy, Limits(deadline_s=deadline_s)) as node:
                caller = Caller(node)
                for _ in range(count):
                    await up(node) if caller.ends else await caller.echo()
                    calls = [caller.echo(), caller.echoes(), caller.echo()]
                    tasks = [asyncio.ensure_future(call) for call in calls]
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)  # they are sent
                    time.sleep(2 * deadline_s)  # noqa: ASYNC251 -- the fault
                    await asyncio.gather(*tasks)
                    await caller.echo()
                assert caller.ends["wrong"] == 0
                assert caller.ends["right"] >= 3 * count  # the loop's fault is not the server's


# a server that hangs, dies, is slow or full


@pytest.mark.parametrize("count", sizes(1, 50))
async def test_a_frozen_server(count: int):
    rng = random.Random(2)
    async with redis_server() as server, node_at(server) as node:
        caller = Caller(node)
        await caller.echo()
        for _ in range(count):
            await up(node)
            caller.errors.clear()
            server.freeze()
            await asyncio.gather(*(caller.echo() for _ in range(5)))
            assert caller.longest_s < 0.25 + SLACK_S
            assert all(isinstance(error, DeadlineError) for error in caller.errors)
            frozen_until = time.monotonic() + 0.1 + rng.random() * 1.5
            while time.monotonic() < frozen_until:
                assert refused_at_once(node).code == "slow"
                await asyncio.sleep(0.02)
            server.thaw()
            thawed = time.monotonic()
            while caller.ends["right"] < 1 or caller.errors:
                caller.errors.clear()
                await caller.echo()
                await asyncio.sleep(0.01)
                assert time.monotonic() - thawed < 2.0 + 0.25 + SLACK_S
            await asyncio.gather(*(caller.echo() for _ in range(20)))
        assert caller.ends["wrong"] == 0


async def test_a_server_that_was_frozen_when_first_needed():
    async with redis_server() as server, node_at(server) as node:
        caller = Caller(node)
        server.freeze()
        await asyncio.gather(*(caller.echo() for _ in range(10)))
        assert caller.ends == {"late": 10}
        assert caller.longest_s < 0.25 + SLACK_S
        refused_at_once(node)
        server.thaw()
        await up(node)
        await caller.echo()
        assert caller.ends["right"] == 1


@pytest.mark.parametrize("count", sizes(1, 50))
async def test_a_server_that_is_killed_under_load_and_started_again(count: int):
    async with redis_server() as server, node_at(server) as node:
        caller = Caller(node)
        await caller.echo()
        working = True

        async def worker() -> None:
            while working:
                await caller.echo()
                await asyncio.sleep(0.001)

        workers = [asyncio.ensure_future(worker()) for _ in range(16)]
        for _ in range(count):
            await up(node)
            await asyncio.sleep(0.05)
            await server.kill()
            await down(node)
            assert refused_at_once(node).code in {"closed", "refused"}

            async def tried_again() -> bool:
                return "refused" in str(refused_at_once(node))

            await until(tried_again, "a probe")
            await server.start()
            await up(node, 0.25 + SLACK_S)
        working = False
        await asyncio.gather(*workers)
        assert caller.ends["wrong"] == 0
        assert caller.longest_s < 0.25 + SLACK_S


@pytest.mark.parametrize("count", sizes(20, 1000))
@pytest.mark.parametrize("delay", [0.05, 0.2, 1.0, 6.0])
async def test_a_slow_server_costs_no_more_than_the_deadline(delay: float, count: int):
    async with (
        redis_server() as server,
        fault_proxy(server.address, seed=3) as proxy,
        node_at(proxy) as node,
    ):
        caller = Caller(node)
        await caller.echo()
        proxy.set(delay=delay, jitter=delay / 10)
        for _ in range(count // 5):
            await asyncio.gather(*(caller.echo() for _ in range(5)))
        assert caller.ends["wrong"] == 0
        assert caller.longest_s < 0.25 + SLACK_S
        if delay >= 1.0:
            assert caller.ends["right"] == 1
        if delay == 0.05:
            assert not caller.ends["unreachable"]
        proxy.heal()
        proxy.cut()
        await up(node)
        await caller.echo()
        assert not caller.ends["wrong"]


@pytest.mark.parametrize("count", sizes(3, 1000))
async def test_a_connection_that_is_reset_in_the_middle_of_a_reply(count: int):
    rng = random.Random(4)
    value = rng.randbytes(200_000)
    async with (
        redis_server() as server,
        fault_proxy(server.address) as proxy,
        node_at(proxy) as node,
    ):
        caller = Caller(node)
        await node.call(pack("SET", "k", value))
        for _ in range(count):
            await up(node)
            before = caller.ends["unreachable"]
            proxy.set(reset_after=100_000)
            await caller.ask(pack("GET", "k"), [value])
            assert caller.ends["unreachable"] == before + 1
            proxy.heal()
            await up(node)
            await caller.ask(pack("GET", "k"), [value])
        assert caller.ends == {"unreachable": count, "right": count}


@pytest.mark.parametrize("count", sizes(3, 1000))
async def test_a_call_whose_reply_is_lost_is_not_sent_again(count: int):
    async with (
        redis_server() as server,
        fault_proxy(server.address) as proxy,
        node_at(proxy, Limits(deadline_s=0.1)) as node,
    ):
        caller = Caller(node)
        await caller.echo()
        for turn in range(count):
            await up(node)
            proxy.set(lose_replies=True)
            await caller.ask(pack("INCR", turn), [])
            proxy.heal()
            opened = turn + 2

            async def anew(opened: int = opened) -> bool:
                return node.opened == opened

            await until(anew, "a new connection: this one owes a reply")
            assert await server.ask("GET", turn) == b"1"
        assert caller.ends == {"right": 1, "late": count}


async def test_a_server_with_all_the_clients_that_it_takes():
    async with redis_server("--maxclients", "4") as server, node_at(server) as node:
        held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(4)]
        caller = Caller(node)
        await asyncio.gather(*(caller.echo() for _ in range(10)))
        assert caller.ends == {"unreachable": 10}
        assert refused_at_once(node).code in {"limit", "closed"}
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        await up(node)
        await caller.echo()
        assert caller.ends["right"] == 1


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_process_without_a_file_descriptor_left():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with redis_server() as server, node_at(server) as node:
        caller = Caller(node)
        held: list[int] = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files() + 8, hard))
        try:
            with suppress(OSError):
                while True:
                    held.append(os.open(os.devnull, os.O_RDONLY))
            await asyncio.gather(*(caller.echo() for _ in range(64)))
            assert caller.ends == {"unreachable": 64}
            error = refused_at_once(node)
            assert (error.code, str(error).endswith(": too many open files")) == ("limit", True)
        finally:
            for descriptor in held:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await up(node)
        await caller.echo()
        assert caller.ends["right"] == 1


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
async def test_loops_in_several_threads_each_have_their_own(new_loop: NewLoop):
    async with redis_server() as server:

        async def use() -> Counter[str]:
            async with node_at(server) as node:
                caller = Caller(node)
                for _ in range(20):
                    await asyncio.gather(*(caller.echo() for _ in range(20)))
                return caller.ends

        def in_a_loop_of_its_own() -> Counter[str]:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                return runner.run(use())

        ends = await asyncio.gather(*(asyncio.to_thread(in_a_loop_of_its_own) for _ in range(4)))
        assert ends == [{"right": 400}] * 4


async def test_the_loop_of_uvicorn_with_a_server_that_dies_and_one_that_hangs():
    async with redis_server() as server:

        async def use() -> Counter[str]:
            async with node_at(server) as node:
                caller = Caller(node)
                await caller.echo()
                server.freeze()
                await asyncio.gather(*(caller.echo() for _ in range(5)))
                refused_at_once(node)
                server.thaw()
                await up(node)
                await server.kill()
                await down(node)
                refused_at_once(node)
                await server.start()
                await up(node)
                await caller.ask(pack("PING", b"x" * 3_000_000), [b"x" * 3_000_000])
                return caller.ends

        def in_uvloop() -> Counter[str]:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(use())

        assert await asyncio.to_thread(in_uvloop) == {"right": 2, "late": 5}
