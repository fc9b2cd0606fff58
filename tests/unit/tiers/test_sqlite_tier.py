"""The embedded L2 keeps what every L2 and every backplane promises."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.behaviour.backplane_suite import BackplaneSuite, Process
from tests.behaviour.backplane_suite import Pair as Processes
from tests.behaviour.l2_suite import L2Suite, Pair

from querycache.ports.tiers import Changes
from querycache.testing import FakeClock
from querycache.tiers.sqlite import SqliteTier


@asynccontextmanager
async def two_tiers(
    folder: Path, clock: FakeClock
) -> AsyncGenerator[tuple[SqliteTier, SqliteTier]]:
    ours, theirs = (
        SqliteTier(str(folder / "l2"), clock=clock, max_bytes=64 * 1024 * 1024) for _ in range(2)
    )
    yield ours, theirs
    assert (ours.rebuilt, theirs.rebuilt) == (0, 0)
    await ours.close()
    await theirs.close()


class TestSqliteTier(L2Suite):
    tells = False

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncGenerator[Pair]:
        self.clock = FakeClock()
        async with two_tiers(folder, self.clock) as (ours, theirs):
            yield ours, theirs

    def wall(self) -> float:
        return self.clock.wall()

    async def pass_time(self, seconds: float) -> None:
        await self.clock.advance(seconds)


class TestSharedEpoch(BackplaneSuite):
    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncGenerator[Processes]:
        self.clock = FakeClock()
        async with two_tiers(folder, self.clock) as (ours, theirs):
            yield Process(ours, ours.backplane), Process(theirs, theirs.backplane)

    def wall(self) -> float:
        return self.clock.wall()

    async def hears(self, listener: Process) -> Changes:
        changes = listener.backplane.drain()
        assert changes.seen == listener.backplane.epoch[0]
        return changes
