"""Many ask for what is not there, in one process and in several: it is computed once, whoever
leaves, fails, hangs or dies.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.live.fault_judge import now
from tests.live.fault_kit import LOCKED, Stage, sizes, stage, url_of
from tests.live.fault_report import Findings, findings
from tests.redis_kit import redis_server

pytestmark = [pytest.mark.asyncio, pytest.mark.live, pytest.mark.alone]

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def started(*arguments: str) -> AsyncGenerator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-m", "tests.live.fault_process", *arguments),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line(process: Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


async def tell(process: Process, words: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{words}\n".encode())
    await process.stdin.drain()


@pytest.mark.parametrize("count", sizes(3, 100))
async def test_a_thousand_ask_at_once(count: int, tmp_path: Path):
    async with redis_server(*LOCKED) as server:
        with findings("F22", 22, "1,000 misses, 1 process") as found:
            url = {"REDIS_URL": url_of(server)}
            async with stage(found, tmp_path, url) as made:
                for number in range(count):
                    calls: list[int] = []

                    async def compute(calls: list[int] = calls) -> int:
                        calls.append(len(calls))
                        await asyncio.sleep(0.02)
                        return len(calls)

                    key, began = f"stampede{number}", now()
                    remember = made.apps[0].remember
                    asked = (remember.get_or_compute(key, compute) for _ in range(1000))
                    values = await asyncio.gather(*asked)
                    found.took(now() - began)
                    found.trials += 1
                    if (len(calls), set(values)) != (1, {1}):
                        found.wrong(f"{len(calls)} calls, {set(values)}")


@pytest.mark.parametrize("count", sizes(3, 50))
@pytest.mark.parametrize("up", [True, False], ids=["with Redis", "without"])
async def test_processes_ask_at_once(
    count: int,
    up: bool,  # noqa: FBT001 -- a case
    tmp_path: Path,
):
    what = "1,000 misses, 4 processes" + ("" if up else ", Redis down")
    async with redis_server(*LOCKED) as server, AsyncExitStack() as stack:
        with findings("F23", 23, what) as found:
            begun = [
                started("stampede", str(tmp_path / str(number)), url_of(server), "250")
                for number in range(4)
            ]
            processes = [await stack.enter_async_context(one) for one in begun]
            for process in processes:
                assert await line(process) == "open"
            if not up:
                await server.kill()
            for number in range(count):
                await one_stampede(found, processes, f"key{number}", shared=up)


async def one_stampede(
    found: Findings, processes: Sequence[Process], key: str, *, shared: bool
) -> None:
    began = now()
    await asyncio.gather(*(tell(process, key) for process in processes))
    told = [json.loads(text) for text in await asyncio.gather(*map(line, processes))]
    found.took(now() - began)
    found.trials += 1
    calls = [one["calls"] for one in told]
    values = {value for one in told for value in one["values"]}
    if (sum(calls), len(values)) != (1, 1) if shared else set(calls) != {1}:
        found.wrong(f"{key}: {calls} calls, {values}")


@pytest.mark.parametrize("count", sizes(20, 1000))
async def test_who_leads_leaves_or_fails_and_the_others_are_served(count: int, tmp_path: Path):
    rng = random.Random(24)
    async with redis_server(*LOCKED) as server:
        with findings("F24", 24, "the leader leaves or fails") as found:
            url = {"REDIS_URL": url_of(server)}
            async with stage(found, tmp_path, url, url) as made:
                for number in range(count):
                    await one_leader(made, f"key{number}", rng)


async def one_leader(made: Stage, key: str, rng: random.Random) -> None:
    """The first caller is cancelled, or its load fails, while ten more wait in two processes."""
    found, fails, calls = made.found, rng.random() < 0.5, 0

    async def compute() -> str:
        nonlocal calls
        calls += 1
        mine = calls
        await asyncio.sleep(0.02)
        if fails and mine == 1:
            raise LookupError(key)
        return key

    asked = [made.apps[n % 2].remember.get_or_compute(key, compute) for n in range(11)]
    tasks = [asyncio.ensure_future(one) for one in asked]
    await asyncio.sleep(rng.random() * 0.02)
    if not fails:
        tasks[0].cancel()
    began = now()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    found.took(now() - began)
    found.trials += 1
    right = [end == key or (fails and isinstance(end, LookupError)) for end in ends[1:]]
    if not all(right) or calls > 2:
        found.wrong(f"{key}: {calls} calls, {ends}")
    if await made.apps[0].remember.get_or_compute(key, compute) != key:
        found.wrong(f"{key}: the error was kept")


@pytest.mark.parametrize("count", sizes(1, 40))
async def test_who_leads_is_killed(count: int, tmp_path: Path):
    """Its lease runs out, and one of those who wait takes over."""
    async with redis_server(*LOCKED) as server:
        with findings("F24", 25, "the leader is killed -9") as found:
            url = {"REDIS_URL": url_of(server)}
            async with stage(found, tmp_path, url, url) as made:
                for number in range(count):
                    await one_killed(made, f"killed{number}", str(tmp_path / "leader"))


async def one_killed(made: Stage, key: str, home: str) -> None:
    async with started("leader", home, made.apps[0].config.redis.url.reveal()) as process:
        assert await line(process) == "open"
        await tell(process, key)
        assert await line(process) == "computing"
        calls: list[str] = []

        async def compute() -> str:
            calls.append(key)
            await asyncio.sleep(0.02)
            return key

        asked = [made.apps[n % 2].remember.get_or_compute(key, compute) for n in range(10)]
        tasks = [asyncio.ensure_future(one) for one in asked]
        await asyncio.sleep(0.2)
        process.kill()
        killed = now()
        values = await asyncio.gather(*tasks)
        made.found.took(now() - killed)
        made.found.most("takeover_s", now() - killed)
        made.found.trials += 1
        if set(values) != {key} or len(calls) != 1 or now() - killed > 3.0:
            made.found.wrong(f"{key}: {len(calls)} calls, {now() - killed:.2f} s, {set(values)}")
