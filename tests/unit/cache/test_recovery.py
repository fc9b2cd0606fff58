"""The recovery queue's bounds; its rules are in tests/races."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.races.core_kit import ALL, Process

from querycache.cache import recovery
from querycache.cache.recovery import Recovery
from querycache.errors import TierError
from querycache.ports.tiers import Write
from querycache.testing import FakeClock, SharedMemory

pytestmark = pytest.mark.asyncio


async def test_past_its_bound_a_name_is_owed_without_its_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recovery, "_ENTRIES", 3)
    one = Process(SharedMemory(FakeClock()))
    queue: Recovery = one.core.recovery
    end = one.clock.wall() + 10.0
    for place in range(5):
        queue.keep(Write(f"k{place}", b"x", end, guard=0), ())
    queue.keep(Write("content", b"x", end, tell=False), ())
    assert (queue.waiting, queue.dropped) == (3, 3)
    assert one.core.generations.owed_keys == {f"k{place}" for place in range(5)}
    assert await queue.settle()
    assert sorted(one.l2.shared.entries) == ["k0", "k1", "k2"]
    assert (queue.recovered, queue.waiting) == (3, 0)


async def test_where_no_channel_ever_comes_the_guard_has_to_do() -> None:
    one = Process(SharedMemory(FakeClock()))
    queue = one.core.recovery
    queue.keep(Write("k", b"x", one.clock.wall() + 100.0, guard=0), ())
    one.core.generations.catch_up()
    one.core.generations.deaf = True
    assert not await queue.settle()
    await one.clock.advance(31.0)
    assert await queue.settle()
    assert list(one.l2.shared.entries) == ["k"]


async def test_one_entry_that_l2_refuses_does_not_stop_the_others() -> None:
    one = Process(SharedMemory(FakeClock()))
    end = one.clock.wall() + 100.0
    for place in range(20):
        one.core.recovery.keep(Write(f"k{place}", b"x", end, guard=0), ())
    write = one.l2.write

    async def fails(writes: Sequence[Write]) -> list[bool]:
        if any(write.key == "k0" for write in writes):
            raise TierError("this one is too large")
        return await write(writes)

    one.l2.write = fails
    for _ in range(30):
        await one.core.settle()
    assert list(one.core.recovery.kept.items) == ["k0"]


async def test_trouble_ends_once_l2_was_told_all() -> None:
    one = Process(SharedMemory(FakeClock()))
    await one.get()
    await one.core.generations.take(ALL)
    one.l2.shared.down = True
    assert await one.put("v")
    assert not await one.core.settle()
    assert one.core.recovery.trouble
    one.l2.shared.down = False
    assert await one.core.settle()
    assert one.core.recovery.trouble == ""
