"""A process that uses an embedded store, for tests that start several and kill some.

Run as `python -m tests.live.sqlite_process <what> <folder> [...]`; prints one line for each thing
that its starter waits for.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from typing import NamedTuple

from querycache.clock import SystemClock
from querycache.errors import TierError
from querycache.ports.tiers import L2, Backplane, Write
from querycache.tiers.backplane import EpochFile
from querycache.tiers.sqlite import SqliteTier

MAX_BYTES = 256 * 1024 * 1024
CLOCK = SystemClock()
LIFE_S = 3600.0


def opened(folder: str, max_bytes: int = MAX_BYTES) -> SqliteTier:
    return SqliteTier(folder, clock=CLOCK, max_bytes=max_bytes, busy_timeout_s=10.0)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def content(number: int) -> bytes:
    """The only bytes that may ever be read for a number."""
    return b"%d:" % number + random.Random(number).randbytes(number * 37 % 6000)


def entry(key: str, data: bytes) -> Write:
    return Write(key, data, CLOCK.wall() + LIFE_S)


class TinyCache:
    """The smallest L1 that keeps the rules: a dict, emptied as the backplane says, never filled
    with what was read before something moved.
    """

    def __init__(self, tier: L2, backplane: Backplane) -> None:
        self.tier = tier
        self.backplane = backplane
        self.entries: dict[str, bytes] = {}
        self.hits = self.seen = 0
        self.bypass = False
        self.world = 0
        self.look()

    def look(self) -> None:
        if self.backplane.epoch[0] == self.seen:
            return
        changes = self.backplane.drain()
        self.seen, self.bypass = changes.seen, changes.bypass
        if changes.lost or changes.bypass:
            self.entries.clear()
            self.world += 1
        for key in changes.keys:
            self.entries.pop(key, None)
            self.world += 1

    async def get(self, key: str) -> bytes | None:
        self.look()
        if key in self.entries and not self.bypass:
            self.hits += 1
            return self.entries[key]
        world = self.world
        data = (await self.tier.read([key]))[0].data
        if data is not None and world == self.world and not self.bypass:
            self.entries[key] = data
        return data

    async def set(self, key: str, data: bytes) -> None:
        await self.tier.write([entry(key, data)])
        self.entries.pop(key, None)
        self.world += 1

    async def delete(self, key: str) -> None:
        await self.tier.remove([key])
        self.entries.pop(key, None)
        self.world += 1


class Event(NamedTuple):
    """One operation: `what` is get, set or delete; times in monotonic seconds."""

    what: str
    key: str
    value: str
    start: float
    end: float


async def numbered_writes(folder: str) -> None:
    """Writes 0, 1, 2, ... for ever; says each when it is acknowledged. A tag follows each
    tenth.
    """
    tier = opened(folder)
    say("open")
    for number in range(1_000_000):
        await tier.write([entry(f"k:{number}", content(number))])
        if number % 10 == 9:
            await tier.bump([f"t:{number}"])
        say(str(number))


async def mixed_load(folder: str, seed: str, seconds: str) -> None:
    """Reads and writes; says its longest operation and its errors."""
    tier = opened(folder)
    choose = random.Random(seed)
    took: list[float] = []
    wrong = 0
    end = CLOCK.monotonic() + float(seconds)
    while CLOCK.monotonic() < end:
        number = choose.randrange(500)
        began = CLOCK.monotonic()
        if choose.random() < 0.2:
            await tier.write([entry(f"k:{number}", content(number))])
        else:
            data = (await tier.read([f"k:{number}"]))[0].data
            wrong += data not in {None, content(number)}
        took.append(CLOCK.monotonic() - began)
    await tier.close()
    say(json.dumps({"took": took, "wrong": wrong}))


async def coherent_load(folder: str, name: str, seconds: str, writes: str) -> None:
    """Eight tasks over twenty keys; says every operation, and what it holds in the end."""
    tier = opened(folder)
    cache = TinyCache(tier, tier.backplane)
    events: list[Event] = []
    say("open")
    sys.stdin.readline()
    end = CLOCK.monotonic() + float(seconds)

    async def work(task: int) -> None:
        choose = random.Random(f"{name}:{task}")
        number = 0
        while CLOCK.monotonic() < end:
            key = f"k:{choose.randrange(20)}"
            dice = choose.random()
            number += 1
            value = f"{name}:{task}:{number}"
            start = CLOCK.monotonic()
            if dice >= float(writes):
                value = ((await cache.get(key)) or b"").decode()
                events.append(Event("get", key, value, start, CLOCK.monotonic()))
                await asyncio.sleep(0)
            elif dice < float(writes) * 0.8:
                await cache.set(key, value.encode())
                events.append(Event("set", key, value, start, CLOCK.monotonic()))
            else:
                await cache.delete(key)
                events.append(Event("delete", key, "", start, CLOCK.monotonic()))

    await asyncio.gather(*map(work, range(8)))
    say("done")
    sys.stdin.readline()  # all have ended
    last = {f"k:{n}": ((await cache.get(f"k:{n}")) or b"").decode() for n in range(20)}
    await tier.close()
    say(json.dumps({"events": events, "last": last, "hits": cache.hits}))


class DoomedFile(EpochFile):
    """Words whose writer is killed beside them."""

    moment = ""

    def begin(self) -> int:
        mark = super().begin()
        if self.moment == "begun":
            os.kill(os.getpid(), signal.SIGKILL)
        return mark

    def end(self, mark: int) -> None:
        if self.moment == "committed":
            os.kill(os.getpid(), signal.SIGKILL)
        super().end(mark)


async def die_between(folder: str, moment: str) -> None:
    """Bumps a tag, and dies with the epoch's words apart."""
    DoomedFile.moment = moment
    tier = opened(folder)
    tier._store.life.file.__class__ = DoomedFile  # pyright: ignore[reportPrivateUsage]  # to be killed inside
    await tier.bump(["t"])


async def failing_disk(folder: str) -> None:
    """Uses a store on a disk that fails now and then; says what was wrong, never raises."""
    wrong = revived = failed = 0
    tier: SqliteTier | None = None
    for _ in range(20):
        try:
            tier = opened(folder)
            break
        except TierError:
            failed += 1
    if tier is not None:
        for number in range(120):
            try:
                await tier.write([entry(f"k:{number}", content(number))])
            except TierError:
                failed += 1
            try:
                data = (await tier.read([f"k:{number // 2}"]))[0].data
                wrong += data not in {None, content(number // 2)}
            except TierError:
                failed += 1
            try:
                await tier.remove([f"k:{number // 2}"])
                revived += (await tier.read([f"k:{number // 2}"]))[0].data is not None
            except TierError:
                failed += 1
        await tier.close()
    say(json.dumps({"wrong": wrong, "revived": revived, "failed": failed}))


async def main() -> None:
    what, *arguments = sys.argv[1:]
    known = (numbered_writes, mixed_load, coherent_load, die_between, failing_disk)
    await {run.__name__: run for run in known}[what](*arguments)


if __name__ == "__main__":
    asyncio.run(main())
