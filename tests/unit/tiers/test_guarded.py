"""A deadline and a breaker around an L2; around a healthy one, nothing changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from tests.behaviour.l2_suite import L2Suite, Pair

from querycache.clock import SystemClock
from querycache.errors import TierError
from querycache.ports.tiers import L2Info, Read, Write
from querycache.testing import FakeClock, FlakyTier, MemoryL2, SharedMemory
from querycache.tiers.breaker import Breaker
from querycache.tiers.guarded import GuardedTier
from querycache.tiers.redis.link import DeadlineError, RefusedError, UnreachableError

DEADLINE_S = 0.25
WRITE = Write("k", b"value", 2e9)


class Guard:
    """A guarded tier over one that fails when told to."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.flaky = FlakyTier(MemoryL2(SharedMemory(self.clock)), clock=self.clock)
        self.breaker = Breaker(self.clock, chance=lambda: 0.5)
        self.tier = GuardedTier(
            self.flaky, self.clock, deadline_s=DEADLINE_S, breaker=self.breaker
        )

    async def outcome(self, seconds: float = DEADLINE_S) -> str:
        """How a read ends that is given so long."""
        asked = asyncio.ensure_future(self.tier.read(["k"]))
        await self.clock.settle()
        if not asked.done():
            await self.clock.advance(seconds)
        if not asked.done():
            asked.cancel()
            return "waits"
        error = asked.exception()
        return type(error).__name__ if error else "answers"


@pytest_asyncio.fixture
async def guard() -> AsyncGenerator[Guard]:
    guard = Guard()
    yield guard
    guard.flaky.heal()
    await guard.tier.close()
    left = {task.get_name() for task in asyncio.all_tasks()}
    assert "guarded tier" not in left


class TestGuardedTier(L2Suite):
    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncGenerator[Pair]:
        del folder
        self.clock = FakeClock()
        shared = SharedMemory(self.clock)
        ours, theirs = (GuardedTier(MemoryL2(shared), self.clock) for _ in range(2))
        yield ours, theirs
        await ours.close()
        await theirs.close()

    def wall(self) -> float:
        return self.clock.wall()

    async def pass_time(self, seconds: float) -> None:
        await self.clock.advance(seconds)


@pytest.mark.asyncio
async def test_what_refuses_is_given_up_at_once(guard: Guard) -> None:
    guard.flaky.down = True
    assert await guard.outcome() == "UnreachableError"
    assert guard.breaker.open
    asked = guard.flaky.asked.total()
    for _ in range(100):
        with pytest.raises(UnreachableError):
            await guard.tier.read(["k"])
    assert guard.flaky.asked["read"] == 1
    assert guard.flaky.asked.total() - asked <= 1  # a probe


@pytest.mark.asyncio
async def test_no_operation_takes_longer_than_the_deadline(guard: Guard) -> None:
    guard.flaky.hanging = True
    assert await guard.outcome(DEADLINE_S * 0.9) == "waits"
    assert await guard.outcome() == "DeadlineError"


@pytest.mark.asyncio
async def test_three_time_outs_open_the_breaker(guard: Guard) -> None:
    guard.flaky.hanging = True
    outcomes = [await guard.outcome() for _ in range(4)]
    assert outcomes == ["DeadlineError"] * 3 + ["UnreachableError"]
    assert guard.flaky.asked["read"] == 3


@pytest.mark.asyncio
async def test_many_at_once_end_together(guard: Guard) -> None:
    guard.flaky.hanging = True
    asked = [asyncio.ensure_future(guard.tier.read([f"k:{n}"])) for n in range(50)]
    await guard.clock.advance(DEADLINE_S)
    assert all(isinstance(one.exception(), DeadlineError) for one in asked)


@pytest.mark.asyncio
@pytest.mark.parametrize("failure", ["down", "hanging"])
async def test_a_probe_behind_finds_out_that_it_is_back(guard: Guard, failure: str) -> None:
    setattr(guard.flaky, failure, True)
    for _ in range(3):
        await guard.outcome()
    assert guard.breaker.open
    guard.flaky.heal()
    for _ in range(20):
        await guard.clock.advance(0.1)
        if await guard.outcome(0.0) == "answers":
            break
    assert not guard.breaker.open
    assert guard.flaky.asked["info"] >= 1


@pytest.mark.asyncio
async def test_callers_never_wait_for_a_probe(guard: Guard) -> None:
    guard.flaky.down = True
    await guard.outcome()
    guard.flaky.down, guard.flaky.hanging = False, True
    await guard.clock.advance(0.3)
    for _ in range(10):
        with pytest.raises(UnreachableError):
            await guard.tier.read(["k"])
    await guard.clock.settle()
    assert guard.flaky.asked["info"] == 1
    assert guard.flaky.asked["read"] == 1


@pytest.mark.asyncio
async def test_a_refused_write_is_an_answer(guard: Guard) -> None:
    guard.flaky.refuse_writes = True
    for _ in range(10):
        with pytest.raises(RefusedError):
            await guard.tier.write([WRITE])
    assert not guard.breaker.open
    assert await guard.outcome() == "answers"


@pytest.mark.asyncio
async def test_health_looks_while_the_breaker_is_open(guard: Guard) -> None:
    guard.flaky.down = True
    info = await guard.tier.info()
    assert (info.connected, guard.breaker.open) == (False, False)
    await guard.outcome()
    assert not (await guard.tier.info()).connected
    guard.flaky.heal()
    assert (await guard.tier.info()).connected
    assert await guard.outcome() == "answers"


@pytest.mark.asyncio
async def test_health_is_bounded_too(guard: Guard) -> None:
    guard.flaky.hanging = True
    asked = asyncio.ensure_future(guard.tier.info())
    await guard.clock.advance(DEADLINE_S)
    info = await asked
    assert not info.connected
    assert "no answer of memory within 0.25 s" in info.error


@pytest.mark.asyncio
async def test_long_work_is_given_time(guard: Guard) -> None:
    guard.flaky.slow_s = 5.0
    swept = asyncio.ensure_future(guard.tier.sweep())
    await guard.clock.advance(5.0)
    assert await swept == 0


@pytest.mark.asyncio
async def test_who_is_cancelled_is_cancelled(guard: Guard) -> None:
    guard.flaky.hanging = True
    asked = asyncio.ensure_future(guard.tier.read(["k"]))
    await guard.clock.settle()
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    assert asked.cancelled()
    await guard.clock.advance(1.0)
    assert not guard.breaker.open


class Broken(MemoryL2):
    """An L2 that breaks the promise of its port."""

    error: BaseException = ValueError("no L2 raises this")

    async def read(self, keys: object, *, fenced: bool = True) -> list[Read]:
        del keys, fenced
        raise self.error

    async def info(self) -> L2Info:
        raise self.error


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [ValueError("x"), OSError("y"), EOFError(), TimeoutError()])
async def test_whatever_is_raised_leaves_as_a_tier_error(error: Exception) -> None:
    clock = FakeClock()
    inner = Broken(SharedMemory(clock))
    inner.error = error
    tier = GuardedTier(inner, clock)
    for _ in range(5):
        with pytest.raises(TierError):
            await tier.read(["k"])
        assert not (await tier.info()).connected
        await clock.advance(0.3)
    await tier.close()


@pytest.mark.asyncio
async def test_each_scan_step_is_bounded(guard: Guard) -> None:
    await guard.tier.write([WRITE, Write("k:2", b"", 2e9)])
    rows = aiter(guard.tier.scan())
    assert (await anext(rows)).key == "k"
    guard.flaky.down = True
    assert (await anext(rows)).key == "k:2"  # the scan had begun
    with pytest.raises(UnreachableError):
        _ = [row async for row in guard.tier.scan()]


def test_each_event_loop_has_deadlines_of_its_own() -> None:
    clock = SystemClock()
    flaky = FlakyTier(MemoryL2(SharedMemory(FakeClock())), clock=clock)
    tier = GuardedTier(flaky, clock, deadline_s=0.01)

    async def work() -> None:
        flaky.slow_s = 60.0
        with pytest.raises(DeadlineError):
            await tier.read(["k"])
        flaky.heal()
        assert (await tier.read(["k"]))[0].data is None
        await tier.close()

    for _ in range(2):
        asyncio.run(work())
