"""The tier that remembers nothing still guards, counts and leases."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.behaviour.l2_suite import L2Suite, Pair

from querycache.errors import TierError
from querycache.ports.tiers import L2, Backplane, Changes, Write
from querycache.testing import FakeClock
from querycache.tiers.backplane import LocalBackplane
from querycache.tiers.null import AbsentTier, NullTier


class TestNullTier(L2Suite):
    tells = False
    remembers = False

    @pytest.fixture(autouse=True)
    def begin(self) -> None:
        self.clock = FakeClock()

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncGenerator[Pair]:
        tier: L2 = NullTier(self.clock)
        del folder
        yield tier, tier

    def wall(self) -> float:
        return self.clock.wall()

    async def pass_time(self, seconds: float) -> None:
        await self.clock.advance(seconds)

    @pytest.mark.asyncio
    async def test_a_guard_older_than_its_memory_is_refused(self) -> None:
        tier = NullTier(self.clock)
        guard = await self.guard(tier, "k")
        await tier.remove([f"k:{number}" for number in range(10_001)])
        assert await tier.write([self.entry("k", guard=guard)]) == [False]
        assert await tier.write([self.entry("k", guard=await self.guard(tier, "k"))]) == [True]

    @pytest.mark.asyncio
    async def test_two_tiers_never_agree_on_a_stamp(self) -> None:
        first, second = NullTier(self.clock), NullTier(self.clock)
        assert await first.stamps(["t"]) != await second.stamps(["t"])

    @pytest.mark.asyncio
    async def test_leases_that_ran_out_are_forgotten(self) -> None:
        tier = NullTier(self.clock)
        for number in range(10_000):
            await tier.lease(f"k:{number}", 1.0)
        await self.clock.advance(2.0)
        assert await tier.lease("k", 1.0)
        assert len(tier._leases) == 1  # pyright: ignore[reportPrivateUsage]  # its bound


@pytest.mark.asyncio
async def test_it_runs_on_the_machines_clock_by_default() -> None:
    tier = NullTier()
    assert await tier.write([Write("k", b"", 0.0)]) == [True]
    assert await tier.lease("k", 60.0)
    assert await tier.lease("k", 60.0) is None


def test_nobody_to_tell() -> None:
    backplane: Backplane = LocalBackplane()
    assert backplane.drain() == Changes(seen=backplane.epoch[0])
    backplane.close()


@pytest.mark.asyncio
async def test_a_tier_that_could_not_be_opened_says_not_that_it_is_empty() -> None:
    tier = AbsentTier("sqlite", TierError("no disk"), FakeClock())
    with pytest.raises(TierError, match="no disk"):
        [listing async for listing in tier.scan()]
