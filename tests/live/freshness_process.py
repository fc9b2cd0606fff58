"""A process that keeps entries derived from files, for tests that edit those files.

Run as `python -m tests.live.freshness_process <what> <root> <file>`; prints one line for each
thing that its starter waits for, and goes on with each line that it gets.
"""

from __future__ import annotations

import asyncio
import sys

from querycache import FileMonitoringService, get_cache_service, index_project, search_code
from querycache.clock import SystemClock

CLOCK = SystemClock()
PROJECT = "watched"


def say(line: object) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def heard() -> str:
    return (await asyncio.to_thread(sys.stdin.readline)).strip()


async def monitor(root: str, _file: str) -> None:
    """Indexes and watches a root until told to end."""
    await index_project(root, PROJECT)
    service = FileMonitoringService()
    await service.start_monitoring([root])
    say("watching")
    while await heard():
        (row,) = service.get_status()
        say(row["lag_ms_max"])
    await service.stop_monitoring()
    await (await get_cache_service()).shutdown()


async def hold(_root: str, file: str) -> None:
    """Holds what was derived from a file in its memory, and says when it is gone (wall
    seconds), and what searches find then; again and again.
    """
    service = await get_cache_service()
    while True:
        await service.set(f"file:{file}", "derived")
        await search_code("answer", PROJECT)
        assert (await search_code("answer", PROJECT)).cache.tier == "l1"
        assert await service.get(f"file:{file}") == "derived"
        say("held")
        while await service.get(f"file:{file}") is not None:  # noqa: ASYNC110 -- another process's doing
            await asyncio.sleep(0.001)
        say(CLOCK.wall())
        found = await search_code("answer", PROJECT)
        say(found.results[0].text.split()[-1])
        if not await heard():
            break
    await service.shutdown()


if __name__ == "__main__":
    asyncio.run({"monitor": monitor, "hold": hold}[sys.argv[1]](*sys.argv[2:]))
