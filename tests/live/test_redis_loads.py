"""A load over Redis during which its tag moves, or whose callers leave: nothing is left behind.

The guard of an entry in Redis does not move with its tags: they are in the entry.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from tests.live.redis_process import ALL, KEYS, POLICY
from tests.live.test_redis_coherence import NAMES, two_cores
from tests.redis_kit import redis_server, until
from tests.redis_tier_kit import tier_at

pytestmark = [pytest.mark.asyncio, pytest.mark.live, pytest.mark.alone]


@pytest.mark.parametrize("other", [0, 1], ids=["here", "elsewhere"])
async def test_an_invalidation_during_a_load_leaves_nothing_behind(other: int) -> None:
    async with redis_server() as server, two_cores(server) as cores:
        started, gate = asyncio.Event(), asyncio.Event()

        async def load() -> str:
            started.set()
            await gate.wait()
            return "before"

        key = KEYS[0]
        asked = cores[0].get_or_load(key, POLICY, load, tags=ALL)
        waiting = asyncio.ensure_future(asked)
        await started.wait()
        await cores[other].invalidate(ALL)
        await cores[0].l2.read(["a barrier"])
        await cores[0].get(KEYS[1], POLICY)  # the news are taken in
        gate.set()
        assert (await waiting).value == "before"  # it began before the invalidation
        for core in cores:
            assert not (await core.get(key, POLICY)).found


async def test_a_lease_that_nobody_waits_for_is_given_back() -> None:
    """Who asks for one may leave while the server grants it."""
    async with redis_server() as server:
        tier = tier_at(server)
        await tier.read(["connected"])
        for number in range(20):
            key = f"k{number}"
            asking = asyncio.ensure_future(tier.lease(key, 60.0))
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # it has left
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking

            async def free(key: str = key) -> bool:
                return await server.ask("EXISTS", NAMES.lease(key)) == 0

            await until(free, "the lease is free", 3)
        await tier.close()
