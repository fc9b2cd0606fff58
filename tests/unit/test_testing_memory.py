"""The shared tier in memory keeps what every L2 and every backplane promises."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.behaviour.backplane_suite import BackplaneSuite, Process
from tests.behaviour.backplane_suite import Pair as Processes
from tests.behaviour.l2_suite import L2Suite, Pair

from querycache.errors import TierError
from querycache.ports.tiers import L2, Changes
from querycache.testing import FakeClock
from querycache.testing.memory import MemoryL2, SharedMemory


class TestMemoryL2(L2Suite):
    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncGenerator[Pair]:
        del folder
        self.clock = FakeClock()
        shared = SharedMemory(self.clock)
        ours: L2 = MemoryL2(shared)
        yield ours, MemoryL2(shared)

    def wall(self) -> float:
        return self.clock.wall()

    async def pass_time(self, seconds: float) -> None:
        await self.clock.advance(seconds)


class TestMemoryBackplane(BackplaneSuite):
    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncGenerator[Processes]:
        del folder
        self.clock = FakeClock()
        shared = SharedMemory(self.clock)
        ours, theirs = MemoryL2(shared), MemoryL2(shared)
        yield Process(ours, ours.backplane), Process(theirs, theirs.backplane)

    def wall(self) -> float:
        return self.clock.wall()

    async def hears(self, listener: Process) -> Changes:
        changes = listener.backplane.drain()
        assert changes.seen == listener.backplane.epoch[0]
        return changes


@pytest.mark.asyncio
async def test_what_is_down_fails_and_says_so() -> None:
    shared = SharedMemory(FakeClock())
    tier = MemoryL2(shared)
    shared.down = True
    for work in (tier.read(["k"]), tier.remove(["k"]), tier.bump(["t"]), tier.sweep()):
        with pytest.raises(TierError):
            await work
    info = await tier.info()
    assert (info.connected, info.ping_ms) == (False, None)
    assert info.error


@pytest.mark.asyncio
async def test_a_channel_that_is_cut_hears_nothing_and_does_not_know_it() -> None:
    shared = SharedMemory(FakeClock())
    ours, theirs = MemoryL2(shared), MemoryL2(shared)
    theirs.backplane.cut = True
    await ours.remove(["k"])
    assert theirs.backplane.drain() == Changes(seen=1)
    theirs.backplane.cut = False
    await ours.remove(["other"])
    assert theirs.backplane.drain().keys == ("other",)
