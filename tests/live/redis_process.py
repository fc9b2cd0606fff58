"""A process that shares a Redis with others: the whole core, as each has it.

Run as `python -m tests.live.redis_process <what> <port> <user> [...]`; prints one line for each
thing that its starter waits for.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys

from tests.live.sqlite_process import CLOCK, Event, say
from tests.redis_tier_kit import PREFIX, opener

from querycache.cache.parts import Parts
from querycache.cache.policy import Policy
from querycache.cache.two_tier import TwoTier
from querycache.codec.pipeline import Pipeline
from querycache.testing import RecordingObserver
from querycache.tiers.memory import MemoryTier, weigh
from querycache.tiers.redis import RedisTier
from querycache.tiers.redis.connection import Limits
from querycache.tiers.redis.endpoint import Endpoint

ALL = ("all",)
KEYS = [f"{PREFIX}:other:_:k{number}" for number in range(20)]
POLICY = Policy(ttl=600.0)


def tier_of(port: int, user: str = "") -> RedisTier:
    open_link = opener(Endpoint("127.0.0.1", port), user=user, limits=Limits(deadline_s=2.0))
    return RedisTier(open_link, prefix=PREFIX, clock=CLOCK)


def core_over(tier: RedisTier) -> TwoTier:
    return TwoTier(
        Parts(
            l1=MemoryTier(max_entries=1000, max_bytes=10_000_000, policy="S3FIFO"),
            l2=tier,
            backplane=tier.backplane,
            codec=Pipeline(),
            clock=CLOCK,
            observer=RecordingObserver(),
            weigh=weigh,
            draw=random.random,
        )
    )


async def coherent_load(port: str, user: str, name: str, seconds: str, writes: str) -> None:
    """Eight tasks over twenty keys; says every operation, and what it holds in the end."""
    tier = tier_of(int(port), "" if user == "-" else user)
    core = core_over(tier)
    events: list[Event] = []
    await core.get(KEYS[0], POLICY)
    say("open")
    await line()
    end = CLOCK.monotonic() + float(seconds)

    async def work(task: int) -> None:
        choose = random.Random(f"{name}:{task}")
        number = 0
        while CLOCK.monotonic() < end:
            key = choose.choice(KEYS)
            dice = choose.random()
            number += 1
            value = f"{name}:{task}:{number}"
            start = CLOCK.monotonic()
            if dice >= float(writes):
                value = str((await core.get(key, POLICY)).value or "")
                events.append(Event("get", key, value, start, CLOCK.monotonic()))
                await asyncio.sleep(0)
            elif dice < float(writes) * 0.8:
                await core.put({key: value}, POLICY, tags=ALL)
                events.append(Event("set", key, value, start, CLOCK.monotonic()))
            else:
                await core.remove([key])
                events.append(Event("delete", key, "", start, CLOCK.monotonic()))

    await asyncio.gather(*map(work, range(8)))
    say("done")
    await line()  # all have ended, and a second has passed
    last = {key: str((await core.get(key, POLICY)).value or "") for key in KEYS}
    hits = sum(tally.l1_hits for tally in core.tallies.values())
    errors = sum(tally.errors for tally in core.tallies.values())
    lag_ms = tier.backplane.worst_lag_ms
    await core.close()
    await tier.close()
    say(
        json.dumps({"events": events, "last": last, "hits": hits, "errors": errors, "lag": lag_ms})
    )


async def line() -> str:
    """What the starter says next; the loop goes on meanwhile."""
    return await asyncio.to_thread(sys.stdin.readline)


async def main() -> None:
    what, *arguments = sys.argv[1:]
    known = (coherent_load,)
    await {run.__name__: run for run in known}[what](*arguments)


if __name__ == "__main__":
    asyncio.run(main())
