"""The tier that fails as it is told to; told nothing, it keeps what every L2 promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.behaviour.backplane_suite import BackplaneSuite, Process
from tests.behaviour.backplane_suite import Pair as Processes
from tests.behaviour.l2_suite import L2Suite, Pair

from querycache.errors import TierError
from querycache.ports.tiers import Changes, Write
from querycache.testing import FakeClock, MemoryL2, SharedMemory
from querycache.testing.flaky import FlakyBackplane, FlakyTier
from querycache.tiers.redis.link import DeadlineError, RefusedError, UnreachableError

WRITE = Write("k", b"value", 2e9)


def flaky_pair(clock: FakeClock) -> tuple[Process, Process]:
    shared = SharedMemory(clock)
    pair: list[Process] = []
    for memory in (MemoryL2(shared), MemoryL2(shared)):
        tier = FlakyTier(memory, clock=clock)
        pair.append(Process(tier, FlakyBackplane(memory.backplane, tier)))
    ours, theirs = pair
    return ours, theirs


class TestFlakyTier(L2Suite):
    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncGenerator[Pair]:
        del folder
        self.clock = FakeClock()
        ours, theirs = flaky_pair(self.clock)
        yield ours.tier, theirs.tier

    def wall(self) -> float:
        return self.clock.wall()

    async def pass_time(self, seconds: float) -> None:
        await self.clock.advance(seconds)


class TestFlakyBackplane(BackplaneSuite):
    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncGenerator[Processes]:
        del folder
        self.clock = FakeClock()
        yield flaky_pair(self.clock)

    def wall(self) -> float:
        return self.clock.wall()

    async def hears(self, listener: Process) -> Changes:
        changes = listener.backplane.drain()
        assert changes.seen == listener.backplane.epoch[0]
        return changes


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def tier(clock: FakeClock) -> FlakyTier:
    return FlakyTier(MemoryL2(SharedMemory(clock)), clock=clock)


EVERYTHING: list[Callable[[FlakyTier], Awaitable[object]]] = [
    lambda tier: tier.read(["k"]),
    lambda tier: tier.write([WRITE]),
    lambda tier: tier.remove(["k"]),
    lambda tier: tier.stamps(["t"]),
    lambda tier: tier.bump(["t"]),
    lambda tier: tier.lease("k", 1.0),
    lambda tier: tier.renew("k", "token", 1.0),
    lambda tier: tier.release("k", "token"),
    lambda tier: tier.sweep(),
    lambda tier: tier.purge("k"),
    lambda tier: anext(aiter(tier.scan())),
]


@pytest.mark.asyncio
@pytest.mark.parametrize("work", EVERYTHING)
async def test_down_refuses_everything(
    tier: FlakyTier, work: Callable[[FlakyTier], Awaitable[object]]
) -> None:
    await tier.write([WRITE])
    tier.down = True
    with pytest.raises(UnreachableError):
        await work(tier)
    info = await tier.info()
    assert not info.connected
    assert "refused" in info.error
    tier.heal()
    await work(tier)
    assert (await tier.info()).connected


@pytest.mark.asyncio
async def test_hanging_answers_when_it_ends(tier: FlakyTier) -> None:
    tier.hanging = True
    asked = asyncio.ensure_future(tier.write([WRITE]))
    await FakeClock.settle()
    assert not asked.done()
    tier.heal()
    assert await asked == [True]


@pytest.mark.asyncio
async def test_slow_takes_its_time(tier: FlakyTier, clock: FakeClock) -> None:
    tier.slow_s = 2.0
    asked = asyncio.ensure_future(tier.read(["k"]))
    await clock.advance(1.9)
    assert not asked.done()
    await clock.advance(0.2)
    assert asked.done()


@pytest.mark.asyncio
async def test_one_in_so_many_fails(tier: FlakyTier) -> None:
    tier.fail_every = 3
    outcomes: list[bool] = []
    for _ in range(9):
        try:
            await tier.read(["k"])
        except TierError:
            outcomes.append(False)
        else:
            outcomes.append(True)
    assert outcomes == [True, True, False] * 3
    assert tier.asked["read"] == 9


@pytest.mark.asyncio
async def test_a_lost_reply_is_of_something_that_was_done(tier: FlakyTier) -> None:
    tier.lose_replies = True
    with pytest.raises(DeadlineError):
        await tier.write([WRITE])
    tier.heal()
    assert (await tier.read(["k"]))[0].data == b"value"


@pytest.mark.asyncio
async def test_writes_are_refused_and_the_rest_goes_on(tier: FlakyTier) -> None:
    await tier.write([WRITE])
    tier.refuse_writes = True
    with pytest.raises(RefusedError) as refused:
        await tier.write([WRITE])
    assert refused.value.code == "OOM"
    assert (await tier.read(["k"]))[0].data == b"value"
    assert await tier.remove(["k"]) == 1


@pytest.mark.asyncio
async def test_corrupt_is_one_bit(tier: FlakyTier) -> None:
    await tier.write([WRITE])
    tier.corrupt = True
    there, absent = await tier.read(["k", "absent"])
    assert there.data is not None
    wrong = [ours ^ theirs for ours, theirs in zip(b"value", there.data, strict=True)]
    assert sum(bits.bit_count() for bits in wrong) == 1
    assert absent.data is None


def test_the_backplane_is_deaf_while_it_is_cut_off() -> None:
    ours, _ = flaky_pair(FakeClock())
    backplane, tier = ours.backplane, ours.tier
    assert isinstance(tier, FlakyTier)
    for cut, name in ((True, "down"), (True, "hanging")):
        seen = backplane.drain().seen
        setattr(tier, name, cut)
        assert backplane.epoch[0] != seen
        lost = backplane.drain()
        assert (lost.lost, lost.deaf, lost.seen) == (True, True, backplane.epoch[0])
        assert (backplane.drain().lost, backplane.drain().deaf) == (False, True)
        tier.heal()
        assert (backplane.drain().deaf, backplane.drain().lost) == (False, False)


@pytest.mark.asyncio
async def test_what_happened_meanwhile_was_not_heard() -> None:
    ours, theirs = flaky_pair(FakeClock())
    tier = theirs.tier
    assert isinstance(tier, FlakyTier)
    tier.down = True
    await ours.tier.remove(["k"])
    tier.heal()
    back = theirs.backplane.drain()
    assert (back.lost, list(back.keys)) == (True, [])
    await ours.tier.remove(["k"])
    assert list(theirs.backplane.drain().keys) == ["k"]
