"""Callers of a cache over Redis leave, freeze the loop, fork, use several loops and threads, bring
huge values; and nobody gets what is another's.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
from tests.fault_proxy import fault_proxy, proxy_process
from tests.live.fault_judge import now
from tests.live.fault_kit import LOCKED, Stage, cache_at, sizes, stage, url_of
from tests.live.fault_report import Findings, findings
from tests.redis_kit import redis_server

from querycache.assembly import App

pytestmark = [pytest.mark.asyncio, pytest.mark.live, pytest.mark.alone]


async def right(app: App, found: Findings, number: int, rng: random.Random) -> None:
    """One operation; its answer must belong to its key."""
    key = f"own{number % 200}"
    way = rng.randrange(4)
    value: object = None
    if way == 0:
        await app.remember.set(key, key)
    elif way == 1:
        value = await app.remember.get(key)
    elif way == 2:
        app.l1.clear()
        keys = [f"own{(number + place) % 200}" for place in range(5)]
        for name, held in (await app.remember.get_batch(keys)).items():
            if held != name:
                found.wrong(f"I1 {name}: {held!r}")
    else:
        value = await app.remember.get_or_compute(key, lambda: key)
    if value not in {None, key}:
        found.wrong(f"I1 {key}: {value!r}")


async def broken_off(work: Coroutine[None, None, None], rng: random.Random) -> None:
    """Left in one of the ways that there are."""
    pause, way = rng.random() * 0.006, rng.randrange(3)
    if way == 0:
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await work
        return
    task = asyncio.ensure_future(work)
    await asyncio.sleep(pause)
    task.cancel()
    if way == 1:
        await asyncio.sleep(0)
        task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("seed", [20, *(pytest.param(n, marks=pytest.mark.soak) for n in (1, 2))])
@pytest.mark.parametrize("count", sizes(500, 10_000))
async def test_callers_that_leave(count: int, seed: int, tmp_path: Path):
    rng = random.Random(seed)
    async with redis_server(*LOCKED) as server, fault_proxy(server.address, seed=seed) as proxy:
        with findings("F20", seed, "cancelled calls") as found:
            url = {"REDIS_URL": url_of(proxy.port)}
            async with stage(found, tmp_path, url) as made:
                proxy.set(delay=0.001, jitter=0.004)
                left, app = count, made.apps[0]

                async def worker() -> None:
                    nonlocal left
                    while left > 0:
                        left -= 1
                        found.trials += 1
                        await broken_off(right(app, found, left, rng), rng)
                        began = now()
                        await right(app, found, left, rng)
                        found.took(now() - began)

                await asyncio.gather(*(worker() for _ in range(32)))
                found.figures["connections"] = proxy.connections
                if proxy.connections > 10:
                    found.wrong(f"I6 {proxy.connections} connections")


@pytest.mark.parametrize("count", sizes(10, 500))
async def test_a_loop_that_stands_still(count: int, tmp_path: Path):
    rng = random.Random(21)
    async with redis_server(*LOCKED) as server:
        with (
            proxy_process(server.address, seed=21) as proxy,
            findings("F21", 21, "loop frozen") as found,
        ):
            proxy.set(delay=0.001, jitter=0.004)
            url = {"REDIS_URL": url_of(proxy.port), "CACHE_L2_DEADLINE_MS": "50"}
            async with stage(found, tmp_path, url) as made:
                for number in range(count):
                    works = [right(made.apps[0], found, number * 7 + n, rng) for n in range(5)]
                    tasks = [asyncio.ensure_future(work) for work in works]
                    await asyncio.sleep(0.001)
                    time.sleep(0.1)  # noqa: ASYNC251 -- the fault
                    await asyncio.gather(*tasks)
                    began = now()
                    await right(made.apps[0], found, number, rng)
                    found.took(now() - began)
                    found.trials += 1
                proxy.heal()
                await made.healed(3.0)
                found.trials -= 1


def in_child(app: App) -> int:
    """The exit status of a fork that used its parent's cache: wrong answers."""

    async def use() -> int:
        wrong = 0
        for number in range(50):
            key = f"child{number}"
            await app.remember.set(key, key)
            app.l1.clear()
            wrong += await app.remember.get(key) != key
            wrong += await app.remember.get(f"parent{number}") != f"parent{number}"
        return wrong

    child = os.fork()
    if child == 0:
        status = 99
        try:
            status = min(98, asyncio.run(use()))
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("count", sizes(2, 50))
async def test_a_fork(count: int, tmp_path: Path):
    async with redis_server(*LOCKED) as server:
        with findings("F39", 39, "fork after use") as found:
            url = {"REDIS_URL": url_of(server), "CACHE_L2_DEADLINE_MS": "5000"}
            async with stage(found, tmp_path, url) as made:
                app = made.apps[0]
                for number in range(50):
                    await app.remember.set(f"parent{number}", f"parent{number}")
                for _ in range(count):
                    children = [asyncio.to_thread(in_child, app) for _ in range(2)]
                    loads = [parents(app, found) for _ in range(4)]
                    *statuses, _, _, _, _ = await asyncio.gather(*children, *loads)
                    if statuses != [0, 0]:
                        found.wrong(f"I1 {statuses} wrong in the children")
                    found.trials += 1


async def parents(app: App, found: Findings) -> None:
    for number in range(200):
        key, began = f"parent{number % 50}", now()
        app.l1.clear()
        if (value := await app.remember.get(key)) != key:
            found.wrong(f"I1 {key}: {value!r} in the parent")
        found.took(now() - began)


@pytest.mark.parametrize("count", sizes(2, 50))
async def test_loops_one_after_the_other_and_side_by_side(count: int, tmp_path: Path):
    """`asyncio.run` twice, four threads, a loop for each call: one cache."""
    async with redis_server(*LOCKED) as server:
        with findings("F40", 40, "several loops and threads") as found:
            url = {"REDIS_URL": url_of(server), "CACHE_L2_DEADLINE_MS": "5000"}
            async with stage(found, tmp_path, url, url) as made:
                for number in range(count):
                    await across_loops(made, number)
                    made.found.trials += 1
                await made.healed(2.0)
                found.trials -= 1


async def across_loops(made: Stage, number: int) -> None:
    ours, theirs = made.apps
    found = made.found

    async def use(name: str) -> None:
        for turn in range(30):
            key, began = f"{name}-{turn % 5}", now()
            await ours.remember.set(key, f"{key} {number} {turn}")
            if turn % 3 == 0:
                ours.l1.clear()
            if (value := await ours.remember.get(key)) != f"{key} {number} {turn}":
                found.wrong(f"I1 {key}: {value!r} in turn {turn}")
            found.took(now() - began)
        await ours.core.flights.close()

    threads = [asyncio.to_thread(asyncio.run, use(f"t{place}")) for place in range(4)]
    await asyncio.gather(use("here"), *threads)
    for turn in range(5):
        await theirs.remember.set("shared", f"{number} {turn}")
        value = await asyncio.to_thread(asyncio.run, one_call(ours, "shared"))
        if value != f"{number} {turn}":
            found.wrong(f"I4 shared: {value!r} and not {number} {turn}, in a loop of its own")


async def one_call(app: App, key: str) -> object:
    return await app.remember.get(key)


@pytest.mark.parametrize("megabytes", [1, 10, 100, pytest.param(513, marks=pytest.mark.soak)])
async def test_a_huge_value(megabytes: int, tmp_path: Path):
    """What is within the limit is kept; what is not costs nobody anything."""
    async with redis_server(*LOCKED) as server, AsyncExitStack() as stack:
        with findings("F41", 41, f"a value of {megabytes} MB") as found:
            apps = [
                await stack.enter_async_context(
                    cache_at(tmp_path / str(n), REDIS_URL=url_of(server))
                )
                for n in range(2)
            ]
            await apps[0].remember.set("small", 1)
            value = random.Random(megabytes).randbytes(1000) * (megabytes * 1000)
            stalls: list[float] = []
            watching = asyncio.ensure_future(watch(stalls))
            began = now()
            kept = await apps[0].remember.set("huge", value)
            found.took(now() - began, "set")
            began = now()
            held = await apps[1].remember.get("huge")
            found.took(now() - began, "get")
            watching.cancel()
            found.figures["longest_stall_ms"] = 1000 * max(stalls, default=0.0)
            found.figures["kept"] = float(kept)
            if held is not None and held != value:
                found.wrong("I1 another value")
            if megabytes > 16 and kept:
                found.wrong(f"{megabytes} MB were kept")
            if await apps[1].remember.get("small") != 1:
                found.wrong("I2 the connection is lost")
            found.trials += 1


async def watch(stalls: list[float]) -> None:
    """Notes how much later than asked the loop wakes."""
    while True:
        began = now()
        await asyncio.sleep(0.001)
        stalls.append(now() - began - 0.001)
