"""F8: how often a value is loaded when everybody misses it at once.

    python bench/single_flight.py [--quick] [--json]

A thousand callers ask for one key that no tier holds: in one process, then in each of four
processes that share a home, or a Redis, and begin together. The loader takes a tenth of a second
and counts its runs.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import kit

from querycache.assembly import App

CALLERS = 1_000
PROCESSES = 4
LOAD_S = 0.1


async def stampede(app: App, key: str) -> int:
    """The loads that a thousand callers cause; each must get the value."""
    loads = 0

    async def load() -> str:
        nonlocal loads
        loads += 1
        await asyncio.sleep(LOAD_S)
        return f"value of {key}"

    values = await asyncio.gather(
        *(app.remember.get_or_compute(key, load) for _ in range(CALLERS))
    )
    assert set(values) == {f"value of {key}"}
    return loads


async def worker(home: Path, **variables: str) -> None:
    """Asks for each key that a line of the standard input names; prints its loads."""
    async with kit.app_at(home, **variables) as app:
        await app.remember.get("warm")
        print("ready", flush=True)
        while key := (await asyncio.to_thread(sys.stdin.readline)).strip():
            print(await stampede(app, key), flush=True)


def among_processes(home: Path, rounds: int, redis: str = "") -> list[int]:
    """The loads of all processes together, round by round; L2 is at the socket of `redis`."""
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", str(home), redis]
    with ExitStack() as stack:
        pipes: list[tuple[IO[str], IO[str]]] = []
        for _ in range(PROCESSES):
            process = stack.enter_context(
                subprocess.Popen(  # noqa: S603 -- this very file
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            assert process.stdin is not None
            assert process.stdout is not None
            pipes.append((process.stdin, process.stdout))
        for _, answers in pipes:
            assert answers.readline() == "ready\n"
        loads: list[int] = []
        for number in range(rounds):
            for keys, _ in pipes:
                keys.write(f"together:{number}\n")
                keys.flush()
            loads.append(sum(int(answers.readline()) for _, answers in pipes))
        for keys, _ in pipes:
            keys.close()
    return loads


async def measure(options: kit.Options) -> Sequence[kit.Row]:
    home = Path.cwd() / "home"
    rounds = options.rounds if options.quick else 3 * options.rounds
    async with kit.app_at(home) as app:
        alone = [await stampede(app, f"alone:{number}") for number in range(rounds)]
    together = await asyncio.to_thread(among_processes, home, rounds)
    with kit.scratch() as folder, kit.redis_at(folder) as (path, _):
        shared = await asyncio.to_thread(among_processes, home, rounds, path)
    return [
        kit.Row("F8", what, "1", _told(loads), set(loads) == {1}, f"{rounds} rounds")
        for what, loads in (
            ("loads of 1,000 concurrent misses of one key, in one process", alone),
            ("the same in each of four processes at once", together),
            ("the same in each of four processes at once, over Redis", shared),
        )
    ]


def _told(loads: Sequence[int]) -> str:
    return f"{max(loads)}" if max(loads) == min(loads) else f"{min(loads)} to {max(loads)}"


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        where = {"REDIS_URL": f"unix://{sys.argv[3]}"} if sys.argv[3] else {}
        asyncio.run(worker(Path(sys.argv[2]), **where))
        return
    kit.run(__doc__, measure)


if __name__ == "__main__":
    main()
