"""F9: how soon an invalidation in one process is heard in another, over each shared L2.

    python bench/coherence.py [--quick] [--json]

A second process looks at the epoch without pause, as a stream of L1 hits does, and drains when it
moved; the time runs from the call of `remove` here to the moment that the name was out of its L1
there (CLOCK_MONOTONIC, which processes share). The control, in turn with it: one byte over a
socket pair, from `send` here to the return of `recv` there. Stale is a hit there that began
after `remove` had returned here and still served the old entry; on Redis, where the push crosses a
socket as well, one that did so later than the goal allows.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from kit import Options, Row, percentile, ratio, redis_at, run, say, scratch

from querycache.assembly.redis import shared_tier
from querycache.clock import SystemClock
from querycache.config import load_config
from querycache.ports.tiers import L2, Backplane, Write
from querycache.tiers.sqlite import SqliteTier

CLOCK = SystemClock()
GOAL = 20.0
ENOUGH = 100
LONG_S = 5.0


class Pipe(Protocol):
    """One end of a `multiprocessing` pipe."""

    def send(self, obj: object, /) -> None: ...

    def recv(self) -> Any: ...  # noqa: ANN401 -- whatever was sent


def opened(where: str) -> tuple[L2, Backplane]:
    """The tier in a folder, or at the socket of a Redis."""
    if where.startswith("unix:"):
        tier = shared_tier(load_config({"REDIS_URL": where}, cwd=Path("/")).config, CLOCK)
    else:
        tier = SqliteTier(where, clock=CLOCK, max_bytes=1 << 28)
    return tier, tier.backplane


def name(number: int) -> str:
    return f"codebase_rag:search:p:{number:032x}"


def listen(where: str, pipe: Pipe, line: socket.socket) -> None:
    asyncio.run(listening(where, pipe, line))


async def listening(where: str, pipe: Pipe, line: socket.socket) -> None:
    """The other process: hears what it is asked to hear, and says when, in monotonic seconds."""
    tier, backplane = opened(where)
    await tier.read(["connected"])
    seen = backplane.drain().seen
    turns = where.startswith("unix:")  # its news come with the loop's turns
    pipe.send("ready")
    while True:
        what, key = pipe.recv()
        if what == "stop":
            await tier.close()
            return
        if what == "byte":
            pipe.send("listening")
            line.recv(1)
            pipe.send(time.monotonic())
            continue
        pipe.send("listening")
        served, seen = await until_heard(backplane, key, seen, turns=turns)
        pipe.send((time.monotonic(), served))


async def until_heard(
    backplane: Backplane, key: str, seen: int, *, turns: bool
) -> tuple[float, int]:
    """Hits a key until it is no longer true: when the last hit began that served it, and the epoch
    that was drained.
    """
    held = {key: b"old"}
    served = 0.0
    deadline = time.monotonic() + LONG_S
    while key in held and served < deadline:
        if turns:
            await asyncio.sleep(0)
        began = time.monotonic()
        if backplane.epoch[0] != seen:
            changes = backplane.drain()
            seen = changes.seen
            for gone in changes.keys:
                held.pop(gone, None)
        if key in held:
            served = began
    return served, seen


class Turns:
    """One invalidation or one byte at a time."""

    def __init__(self, tier: L2, pipe: Pipe, line: socket.socket) -> None:
        self.tier = tier
        self.pipe = pipe
        self.line = line
        self.stale: list[float] = []  # seconds after the return of `remove`
        self.unheard = 0

    async def invalidation(self, number: int) -> float:
        key = name(number)
        await self.tier.write([Write(key, b"old", CLOCK.wall() + 60, tell=False)])
        self.pipe.send(("key", key))
        assert self.pipe.recv() == "listening"
        await asyncio.sleep(0.001)
        began = time.monotonic()
        await self.tier.remove([key])
        returned = time.monotonic()
        heard, served = self.pipe.recv()
        self.unheard += heard - began >= LONG_S
        if served > returned:
            self.stale.append(served - returned)
        return heard - began

    async def byte(self) -> float:
        self.pipe.send(("byte", ""))
        assert self.pipe.recv() == "listening"
        await asyncio.sleep(0.001)
        began = time.monotonic()
        self.line.send(b"x")
        return self.pipe.recv() - began


async def measure(options: Options) -> Sequence[Row]:
    with scratch() as folder:
        rows = [await measured(options, "embedded", str(folder / "l2"))]
        with redis_at(folder) as (path, _):
            rows.append(await measured(options, "Redis", f"unix://{path}"))
        return rows


async def measured(options: Options, backend: str, where: str) -> Row:
    count = ENOUGH if options.quick else 3 * ENOUGH
    spawn = multiprocessing.get_context("spawn")
    ours: list[float] = []
    control: list[float] = []
    everything: list[float] = []
    bytes_: list[float] = []
    tier, _ = opened(where)
    near, far = spawn.Pipe()
    here, there = socket.socketpair()
    process = spawn.Process(target=listen, args=(where, far, there), daemon=True)
    process.start()
    assert near.recv() == "ready"
    turns = Turns(tier, near, here)
    for number in range(options.rounds):
        say(f"{backend}: round {number + 1} of {options.rounds}")
        heard: list[float] = []
        hops: list[float] = []
        for each in range(count):
            heard.append(await turns.invalidation(number * count + each))
            hops.append(await turns.byte())
        ours.append(percentile(heard, 0.99))
        control.append(percentile(hops, 0.99))
        everything += heard
        bytes_ += hops
    near.send(("stop", ""))
    process.join()
    await tier.close()
    tail = ratio(ours, control)
    allowed = GOAL * percentile(bytes_, 0.99) if backend == "Redis" else 0.0
    stale = sum(late > allowed for late in turns.stale)
    note = (
        f"p50 {median(everything) * 1e6:.0f} µs against {median(bytes_) * 1e6:.0f}; "
        f"p99 {percentile(everything, 0.99) * 1e6:.0f} against "
        f"{percentile(bytes_, 0.99) * 1e6:.0f}; {turns.unheard} of {len(everything)} unheard"
    )
    return Row(
        "F9",
        f"{backend}: an invalidation reaches the L1 of another process, p99",
        f"≤ {GOAL:g} x a one-byte hop, none stale after it",
        f"{tail:.1f} x, {stale} stale",
        tail <= GOAL and not stale and not turns.unheard,
        note,
    )


if __name__ == "__main__":
    run(__doc__, measure)
