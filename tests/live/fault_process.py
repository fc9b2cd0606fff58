"""A process with a cache of its own, for tests that start several and kill some.

Run as `python -m tests.live.fault_process <what> <home> <url> [...]`; prints one line for each
thing that its starter waits for. Further settings come by the environment.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from querycache.assembly import App
from querycache.config import load_config


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def line() -> str:
    """What the starter says next; "" when it is gone. The loop goes on meanwhile."""
    return (await asyncio.to_thread(sys.stdin.readline)).strip()


@asynccontextmanager
async def cache(home: str, url: str) -> AsyncGenerator[App]:
    """One that keeps house and is connected, if it can be."""
    environ = {**os.environ, "QUERYCACHE_HOME": home, "HOME": home, "REDIS_URL": url}
    app = App(load_config(environ, cwd=Path(home).parent).config, door="test")
    try:
        async with app.running():
            await app.remember.get("connected")
            yield app
    finally:
        await app.close()


async def stampede(home: str, url: str, callers: str) -> None:
    """For each key that is named: so many ask for it at once. Says how often it was computed, and
    what they got.
    """
    async with cache(home, url) as app:
        say("open")
        while key := await line():
            calls = 0

            async def compute() -> str:
                nonlocal calls
                calls += 1
                await asyncio.sleep(0.1)
                return f"{os.getpid()}:{calls}"

            asked = (app.remember.get_or_compute(key, compute) for _ in range(int(callers)))
            values = await asyncio.gather(*asked)
            say(json.dumps({"calls": calls, "values": sorted(map(str, set(values)))}))


async def leader(home: str, url: str) -> None:
    """Begins to compute what is named, and never ends."""
    async with cache(home, url) as app:
        say("open")
        key = await line()

        async def compute() -> str:
            say("computing")
            await asyncio.sleep(3600)
            return "never"

        await app.remember.get_or_compute(key, compute)


async def service(home: str, url: str) -> None:
    """Sets and reads until SIGTERM, then ends as an application does; says what it did."""
    async with cache(home, url) as app:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        draw, kept = random.Random(os.getpid()), dict[str, int]()

        async def work(name: int) -> None:
            number = 0
            while not ended.is_set():
                number += 1
                key = f"w{name}:{number % 50}"
                if await app.remember.set(key, number, ttl=600):
                    kept[key] = number
                await app.remember.get(f"w{draw.randrange(8)}:{draw.randrange(50)}")
                await app.remember.get_or_compute(f"c{number}", lambda: name)

        say("open")
        await asyncio.gather(*map(work, range(8)))
        began = time.monotonic()
    say(json.dumps({"kept": kept, "closing_s": time.monotonic() - began}))


async def main() -> None:
    what, *arguments = sys.argv[1:]
    known = (stampede, leader, service)
    await {run.__name__: run for run in known}[what](*arguments)


if __name__ == "__main__":
    asyncio.run(main())
