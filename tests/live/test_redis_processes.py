"""Processes that share a Redis while processes are killed and frozen, the server is started again,
and connections are cut: outside of that, none serves what another replaced.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
from asyncio.subprocess import Process
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest
from tests.live.fault_judge import SETTLED_S
from tests.live.fault_kit import sizes
from tests.live.fault_report import Findings, findings
from tests.live.sqlite_process import CLOCK, Event
from tests.live.test_redis_coherence import BUSY_S, Judged, line, release, started
from tests.redis_kit import RedisServer, redis_server

pytestmark = [pytest.mark.asyncio, pytest.mark.live, pytest.mark.alone]


@pytest.mark.parametrize("count", sizes(1, 20))
async def test_none_keeps_what_another_replaced_whatever_happens(count: int) -> None:
    with findings("F28", 28, "4 processes and faults") as found:
        for number in range(count):
            async with redis_server() as server:
                await one_run(
                    server, found, random.Random(28 + number), 12.0 if count > 1 else 4.5
                )


async def one_run(
    server: RedisServer, found: Findings, rng: random.Random, seconds: float
) -> None:
    """Four processes read and write, a fifth only reads: it is the one to be killed."""
    async with AsyncExitStack() as stack:
        loads = [("coherent_load", str(server.port), "-", f"p{n}") for n in range(5)]
        processes = [
            await stack.enter_async_context(started(*load, str(seconds), "0.1" if n < 4 else "0"))
            for n, load in enumerate(loads)
        ]
        for process in processes:
            assert await line(process) == "open"
        for process in processes:
            await release(process)
        windows = await faults(server, processes, rng, CLOCK.monotonic() + seconds - 2.5)
        living = processes[:4]
        for process in living:
            assert await line(process) == "done"
        await asyncio.sleep(1.0)  # quiet
        for process in living:
            await release(process)
        reports = [json.loads(await line(process)) for process in living]
    events = [Event(*event) for report in reports for event in report["events"]]
    verdict = Judged([event for event in events if judged(event, windows)], BUSY_S)
    last: list[dict[str, str]] = [report["last"] for report in reports]
    diverged = sum(len({held[key] for held in last}) > 1 for key in last[0])
    found.trials += 1
    for event in events:
        found.took(event.end - event.start, event.what)
    found.most("stale_reads", verdict.stale)
    found.most("longest_stale_ms", verdict.longest_s * 1000)
    if verdict.late or verdict.future or diverged:
        found.wrong(f"I4 {verdict.late} late, {verdict.future} future, {diverged} diverged")


def judged(event: Event, windows: Sequence[tuple[float, float]]) -> bool:
    """Whether it is a write, or a read that began outside of the faults and two seconds after."""
    return event.what != "get" or not any(
        since <= event.start <= until + SETTLED_S for since, until in windows
    )


async def faults(
    server: RedisServer, processes: Sequence[Process], rng: random.Random, until: float
) -> list[tuple[float, float]]:
    """One after the other, in some order; when each was."""
    windows: list[tuple[float, float]] = []
    kinds = ["kill", "freeze", "cut", "restart"]
    rng.shuffle(kinds)
    await asyncio.sleep(0.5)
    for kind in kinds:
        if CLOCK.monotonic() > until:
            break
        since = CLOCK.monotonic()
        if kind == "kill":
            processes[4].kill()
        elif kind == "freeze":
            processes[3].send_signal(signal.SIGSTOP)
            await asyncio.sleep(0.7)
            processes[3].send_signal(signal.SIGCONT)
        elif kind == "cut":
            await server.ask("CLIENT", "KILL", "TYPE", "normal")
        else:
            await server.restart()
        windows.append((since, CLOCK.monotonic()))
        await asyncio.sleep(0.3 if until - since < 6 else SETTLED_S + rng.random() * 0.5)
    return windows
