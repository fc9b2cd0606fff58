"""A cache of two processes lives through what one Redis can do to it: it dies, hangs, is slow, is
full, refuses; and callers notice nothing but a miss.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from tests.fault_proxy import fault_proxy
from tests.live.fault_judge import now
from tests.live.fault_kit import (
    DEADLINE_S,
    LOCKED,
    SECRET,
    SLACK_S,
    held,
    sizes,
    soaked,
    under_load,
    url_of,
)
from tests.redis_kit import RedisServer, redis_server, tls_server, until

pytestmark = [pytest.mark.asyncio, pytest.mark.live, pytest.mark.alone]

PROBE_S = 0.25
"""The longest pause between two attempts to reach a server that refuses."""

BACK_OFF_S = 2.0
"""The same for one that hangs."""

BUSY_S = 0.75
"""For a busy machine: what healing may take beyond."""


@pytest.mark.parametrize("count", sizes(2, 50))
async def test_a_server_that_is_killed_and_comes_back_empty(count: int, tmp_path: Path):
    async with (
        redis_server(*LOCKED) as server,
        under_load("F01", 1, tmp_path, *[url_of(server)] * 2, what="kill -9, restart") as stage,
    ):
        stage.leases_outlive = False
        for _ in range(count):
            await asyncio.sleep(0.2 + stage.random.random() * 0.3)
            async with stage.outage(judged_after_s=0.2):
                await server.kill()
                await stage.said("degraded", connected=False, why="does not answer")
                await asyncio.sleep(stage.random.uniform(0.3, 1.0 if count < 10 else 3.0))
                await server.start()
            await stage.healed(PROBE_S + BUSY_S)
            await stage.said("healthy", connected=True)


@pytest.mark.parametrize("count", sizes(1, 50))
async def test_a_server_that_hangs(count: int, tmp_path: Path):
    async with (
        redis_server(*LOCKED) as server,
        under_load("F02", 2, tmp_path, *[url_of(server)] * 2, what="SIGSTOP, SIGCONT") as stage,
    ):
        for number in range(count):
            await asyncio.sleep(0.2)
            async with stage.outage():
                server.freeze()
                await stage.said("degraded", connected=False, why="does not answer")
                long = 30.0 if number == 9 else stage.random.uniform(0.5, 3.0)
                await asyncio.sleep(long if count > 1 else 0.7)
                server.thaw()
            await stage.healed(BACK_OFF_S + BUSY_S)


@pytest.mark.parametrize("count", sizes(60, 1000))
@pytest.mark.parametrize("delay", [soaked(0.05), 0.2, 1.0, soaked(6.0)])
async def test_a_server_that_is_slow(delay: float, count: int, tmp_path: Path):
    """A look or a change asks Redis up to four times, one after the other (the counters of its
    tags, the entry, what is created for the next one): each is bounded by the deadline. One that
    loads takes a lease besides.
    """
    async with redis_server(*LOCKED) as server, fault_proxy(server.address, seed=3) as proxy:
        what, urls = f"replies {delay} s late", [url_of(proxy.port), url_of(proxy.port)]
        async with under_load("F03", 3, tmp_path, *urls, what=what) as stage:
            done = stage.found.operations + count
            stage.limit_s = 4 * DEADLINE_S + SLACK_S
            with stage.judge.trouble():
                proxy.set(delay=delay, jitter=delay / 10)

                async def enough() -> bool:
                    return stage.found.operations >= done

                await until(enough, "operations", 600)
                await asyncio.sleep(0.5)
                proxy.heal()
                proxy.cut()
            await stage.healed(BACK_OFF_S + BUSY_S)


@pytest.mark.parametrize("count", sizes(1, 30))
async def test_a_connection_that_falls_silent(count: int, tmp_path: Path):
    """Half-open: neither side hears of the other, nor of its end. Only one process has it, and the
    other goes on to change what the first has in L1.
    """
    async with redis_server(*LOCKED) as server, fault_proxy(server.address, seed=6) as proxy:
        urls = url_of(server), url_of(proxy.port)
        async with under_load("F06", 6, tmp_path, *urls, what="silence (proxy)") as stage:
            for _ in range(count):
                await asyncio.sleep(0.2)
                with stage.judge.trouble():
                    proxy.set(silent=True)
                    silent = now()

                    async def noticed() -> bool:
                        return stage.apps[1].core.generations.deaf

                    await until(noticed, "it is deaf", 3)
                    stage.found.most("noticed_after_s", now() - silent)
                    await asyncio.sleep(0.5)
                    proxy.heal()
                await stage.healed(BACK_OFF_S + BUSY_S)


@pytest.mark.parametrize("count", sizes(1, 30))
async def test_an_idle_connection_that_falls_silent_is_noticed(count: int, tmp_path: Path):
    """With nothing on its way, only our own pings find out."""
    async with redis_server(*LOCKED) as server, fault_proxy(server.address, seed=6) as proxy:
        urls = url_of(server), url_of(proxy.port)
        async with under_load("F06", 7, tmp_path, *urls, what="silence while idle") as stage:
            idle = stage.apps[1].core
            stage.pause()
            for number in range(count):
                key = f"idle{number}"
                await stage.apps[1].remember.set(key, "old")
                proxy.set(silent=True)
                silent = now()
                await stage.apps[0].remember.set(key, "new")

                async def noticed() -> bool:
                    idle.generations.catch_up()
                    return idle.generations.deaf

                await until(noticed, "it is deaf", 5)
                took = now() - silent
                stage.found.most("noticed_after_s", took)
                if took > BACK_OFF_S + BUSY_S:
                    stage.found.wrong(f"I4 noticed after {took:.2f} s")
                if (value := await stage.apps[1].remember.get(key)) is not None:
                    stage.found.wrong(f"I4 {value!r} after the channel was known to be silent")
                proxy.heal()
                await stage.healed(BACK_OFF_S + BUSY_S)


@pytest.mark.parametrize("count", sizes(2, 60))
async def test_a_link_that_stutters_and_breaks(count: int, tmp_path: Path):
    async with redis_server(*LOCKED) as server, fault_proxy(server.address, seed=7) as proxy:
        urls = [url_of(proxy.port)] * 2
        async with under_load("F07", 7, tmp_path, *urls, what="jitter and cuts (proxy)") as stage:
            for number in range(count):
                with stage.judge.trouble():
                    proxy.set(delay=0.001, jitter=0.15, reset_after=20_000 if number % 2 else None)
                    await asyncio.sleep(stage.random.uniform(0.2, 1.0))
                    proxy.cut()
                    await asyncio.sleep(0.1)
                    proxy.heal()
                await stage.healed(BACK_OFF_S + BUSY_S)


@pytest.mark.parametrize("count", sizes(2, 200))
async def test_a_server_without_memory(count: int, tmp_path: Path):
    async with (
        redis_server(*LOCKED, "--maxmemory-policy", "noeviction") as server,
        under_load("F08", 8, tmp_path, *[url_of(server)] * 2, what="OOM, noeviction") as stage,
    ):
        opened = [await connections(server)]
        for _ in range(count):
            with stage.judge.trouble():
                await server.ask("CONFIG", "SET", "maxmemory", "1000")
                await asyncio.sleep(0.3)
                await stage.said("degraded", connected=True, why="OOM")
                await server.ask("CONFIG", "SET", "maxmemory", "0")
            await stage.healed(1.0 + BUSY_S)
        opened.append(await connections(server))
        assert opened[0] == opened[1], "a refusal is no lost connection"


async def connections(server: RedisServer) -> list[bytes]:
    """The ids of the clients that are ours."""
    said = bytes(await server.ask("CLIENT", "LIST"))
    lines = [line for line in said.splitlines() if b"name=querycache" in line]
    return sorted(line.split()[0] for line in lines)


@pytest.mark.parametrize("count", sizes(1, 20))
async def test_a_server_with_all_the_clients_that_it_takes(count: int, tmp_path: Path):
    async with (
        redis_server(*LOCKED) as server,
        under_load("F09", 9, tmp_path, *[url_of(server)] * 2, what="maxclients") as stage,
    ):
        for _ in range(count):
            await asyncio.sleep(0.2)
            async with stage.outage(judged_after_s=0.2), only_client(server):
                await stage.said("degraded", connected=False, why="clients")
                await asyncio.sleep(0.3)
            await stage.healed(PROBE_S + BUSY_S)


@asynccontextmanager
async def only_client(server: RedisServer) -> AsyncGenerator[None]:
    """All others are turned out, and none is let in."""
    reader, writer = await asyncio.open_unix_connection(str(server.socket))

    async def say(words: str) -> None:
        writer.write(f"{words}\r\n".encode())
        reply = await reader.readline()
        assert reply[:1] in b"+:", reply

    await say(f"AUTH {SECRET}")
    await say("CONFIG SET maxclients 1")
    await say("CLIENT KILL TYPE normal")
    try:
        yield
    finally:
        await say("CONFIG SET maxclients 10000")
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("count", sizes(1, 20))
async def test_a_password_that_is_rotated(count: int, tmp_path: Path):
    """Who is connected goes on; who must connect again can't, says so, and shows no password."""
    async with (
        redis_server(*LOCKED) as server,
        under_load("F15", 15, tmp_path, *[url_of(server)] * 2, what="password rotated") as stage,
    ):
        for number in range(count):
            other = f"canary-other-{number}"
            await server.ask("CONFIG", "SET", "requirepass", other)
            await stage.said("healthy", connected=True)
            async with stage.outage(judged_after_s=0.3):
                server.options = ("--requirepass", other)
                await server.ask("CLIENT", "KILL", "TYPE", "normal")
                said = await stage.said("degraded", connected=False, why="password")
                assert "canary" not in said
                await asyncio.sleep(0.2)
                await server.ask("CONFIG", "SET", "requirepass", SECRET)
                server.options = LOCKED
            await stage.healed(BACK_OFF_S + BUSY_S)


async def test_a_server_that_speaks_tls_to_one_that_does_not(tmp_path: Path):
    """The cache goes on without it, and says why."""
    async with tls_server(*LOCKED) as server:
        url, what = url_of(server), "plain client, TLS server"
        async with under_load("F16", 16, tmp_path, url, what=what, connected=False) as stage:
            await stage.said("degraded", connected=False, why=f"127.0.0.1:{server.port}")
            await asyncio.sleep(0.5)
            stage.found.trials += 1


async def test_a_process_without_a_file_descriptor_left(tmp_path: Path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with (
        redis_server(*LOCKED) as server,
        under_load("F33", 33, tmp_path, *[url_of(server)] * 2, what="no descriptor") as stage,
    ):
        for _ in range(2):
            taken: list[int] = []
            async with stage.outage(judged_after_s=0.2):
                _, files = held()
                try:
                    await server.ask("CLIENT", "KILL", "TYPE", "normal")
                    resource.setrlimit(resource.RLIMIT_NOFILE, (files + 8, hard))
                    with suppress(OSError):
                        while True:
                            taken.append(os.open(os.devnull, os.O_RDONLY))
                    await asyncio.sleep(0.6)
                finally:
                    for descriptor in taken:
                        os.close(descriptor)
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await stage.healed(PROBE_S + BUSY_S)
