"""A process that writes behind, for tests that kill it: numbered sets over a few keys.

Run as `python -m tests.live.write_back_process <folder> <journal: 0 or 1> <seed>`; prints a line
for each set when it is acknowledged, and one for each flush with what L2 has taken so far.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from querycache.cache.parts import Parts
from querycache.cache.policy import Policy
from querycache.cache.two_tier import TwoTier
from querycache.cache.waiting import Limits
from querycache.clock import SystemClock
from querycache.codec.pipeline import Pipeline
from querycache.testing import RecordingObserver
from querycache.tiers.memory import MemoryTier, weigh
from querycache.tiers.sqlite import SqliteTier
from querycache.tiers.sqlite.journal import SqliteJournal

BACK = Policy(ttl=3600.0, strategy="WRITE_BACK")
LIMITS = Limits(entries=300, interval_s=0.05, batch=50)
KEYS = 40
CLOCK = SystemClock()


def name(key: int) -> str:
    return f"codebase_rag:other:_:{key}"


def started(folder: str, *, journal: bool) -> tuple[TwoTier, SqliteTier]:
    tier = SqliteTier(folder, clock=CLOCK, max_bytes=1 << 26, busy_timeout_s=10.0)
    parts = Parts(
        l1=MemoryTier(max_entries=1000, max_bytes=1 << 24, policy="S3FIFO"),
        l2=tier,
        backplane=tier.backplane,
        codec=Pipeline(),
        clock=CLOCK,
        observer=RecordingObserver(),
        weigh=weigh,
        draw=random.random,
    )
    kept = SqliteJournal(str(Path(folder) / "journal")) if journal else None
    return TwoTier(parts, LIMITS, kept), tier


async def main() -> None:
    folder, journal, seed = sys.argv[1:]
    core, _ = started(folder, journal=journal == "1")
    choose = random.Random(seed)
    sys.stdout.write("open\n")
    for number in range(1_000_000):
        key = choose.randrange(KEYS)
        await core.put({name(key): number}, BACK, tags=("all",))
        sys.stdout.write(f"{key} {number} {len(core.write_back.queue)}\n")
        sys.stdout.flush()
        await asyncio.sleep(choose.choice((0.0, 0.0, 0.0005)))


if __name__ == "__main__":
    asyncio.run(main())
