"""A rehearsal: a user's own code over a cache whose shared tier fails."""

from __future__ import annotations

import asyncio
import doctest
from collections.abc import Callable

import pytest

from querycache.events import TierFailed
from querycache.testing import FlakyTier, rehearsal, stage


@pytest.mark.asyncio
async def test_without_failures_it_is_a_cache() -> None:
    async with rehearsal() as (service, flaky, clock):
        await service.set("k", {"a": [1, 2]}, ttl=60)
        assert await service.get("k") == {"a": [1, 2]}
        assert (await service.get_health()).status == "healthy"
        assert (await service.check_cache_coherency()).coherent
        await clock.advance(61.0)
        assert await service.get("k") is None
        stats = service.get_stats()
        assert (stats.hit_count, stats.miss_count, stats.set_count) == (1, 1, 1)
        assert flaky.asked["write"] == 1


FAILURES: dict[str, Callable[[FlakyTier], None]] = {
    "down": lambda tier: setattr(tier, "down", True),
    "hanging": lambda tier: setattr(tier, "hanging", True),
    "slow": lambda tier: setattr(tier, "slow_s", 10.0),
    "every second": lambda tier: setattr(tier, "fail_every", 2),
    "lost replies": lambda tier: setattr(tier, "lose_replies", True),
    "refused writes": lambda tier: setattr(tier, "refuse_writes", True),
    "corrupt": lambda tier: setattr(tier, "corrupt", True),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.asyncio
async def test_nothing_raises_and_nothing_stale_is_served(name: str) -> None:
    async with rehearsal() as (service, flaky, clock):
        truth = 0

        async def load() -> int:
            return truth

        async def work() -> None:
            nonlocal truth
            await service.set("set", "before")
            for truth in range(1, 4):
                await service.delete("loaded")
                assert await service.get_or_compute("loaded", load) == truth
                await service.set("set", truth)
                assert await service.get("set") in {truth, None}
                await service.get_batch(["set", "loaded", "absent"])
            await service.delete("set")
            assert await service.get("set") is None

        async def time() -> None:
            for _ in range(100):
                await clock.advance(0.1)

        for failing in (True, False):
            if failing:
                FAILURES[name](flaky)
            else:
                flaky.heal()
            await asyncio.gather(work(), time())
        assert (await service.get_health()).l2_connected
        await service.set("k", "v")
        assert await service.get("k") == "v"
        assert (await service.get_health()).status == "healthy"


@pytest.mark.asyncio
async def test_failures_are_told_by_health_and_by_events() -> None:
    async with rehearsal() as (service, flaky, clock):
        await service.set("old", 1)
        flaky.down = True
        await service.set("k", 1)
        health = await service.get_health()
        assert (health.status, health.l2_connected) == ("degraded", False)
        assert health.pending.recovery == 1
        assert service.observer.of(TierFailed)
        flaky.heal()
        await clock.advance(2.0)
        assert (await service.get_health()).pending.recovery == 0
        assert await service.get("old") == 1


@pytest.mark.asyncio
async def test_a_rehearsal_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    async with rehearsal() as (service, flaky, _):
        flaky.hanging = True
        waits = asyncio.ensure_future(service.get("k"))
        await asyncio.sleep(0)
        waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)
    assert asyncio.all_tasks() == before


def test_its_example_runs() -> None:
    assert doctest.testmod(stage).failed == 0
