"""Leases: one holder, renewed while it works, taken over when it is dead."""

from __future__ import annotations

import asyncio

import pytest

from querycache.cache.lease import Leases
from querycache.testing import FakeClock, MemoryL2, SharedMemory

pytestmark = pytest.mark.asyncio


async def test_one_holder_at_a_time() -> None:
    clock = FakeClock()
    shared = SharedMemory(clock)
    inside: list[str] = []

    async def work(name: str, release: asyncio.Event) -> None:
        async with Leases(MemoryL2(shared), clock).held("k", 2.0, patience=60.0) as held:
            assert held
            inside.append(name)
            await release.wait()
            inside.append(f"{name} ends")

    gates = [asyncio.Event(), asyncio.Event()]
    tasks = [asyncio.ensure_future(work(n, g)) for n, g in zip("ab", gates, strict=True)]
    await clock.advance(30.0)  # far longer than the lease: it is renewed
    assert inside == ["a"]
    gates[0].set()
    gates[1].set()
    await clock.advance(1.0)
    await asyncio.gather(*tasks)
    assert inside == ["a", "a ends", "b", "b ends"]
    assert shared.leases == {}


async def test_patience_ends() -> None:
    clock = FakeClock()
    shared = SharedMemory(clock)
    await MemoryL2(shared).lease("k", 1000.0)

    async def work() -> bool:
        async with Leases(MemoryL2(shared), clock).held("k", 2.0, patience=5.0) as held:
            return held

    task = asyncio.ensure_future(work())
    await clock.advance(4.0)
    assert not task.done()
    await clock.advance(2.0)
    assert await task is False


async def test_without_l2_the_block_runs_without_a_lease() -> None:
    clock = FakeClock()
    shared = SharedMemory(clock)
    shared.down = True
    async with Leases(MemoryL2(shared), clock).held("k", 2.0, patience=5.0) as held:
        assert not held


async def test_an_l2_that_fails_meanwhile_hurts_nobody() -> None:
    clock = FakeClock()
    shared = SharedMemory(clock)
    async with Leases(MemoryL2(shared), clock).held("k", 2.0, patience=5.0) as held:
        assert held
        shared.down = True
        await clock.advance(10.0)
