"""The dirty queue's background work; its rules are in tests/races."""

from __future__ import annotations

import asyncio

import pytest
from tests.races.core_kit import ALL, KEY, Process

from querycache.cache.policy import Policy
from querycache.cache.waiting import Limits
from querycache.cache.write_back import WriteBack
from querycache.testing import FakeClock, SharedMemory

BACK = Policy(ttl=100.0, strategy="WRITE_BACK")


def tasks() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if "write-back" in task.get_name()]


@pytest.mark.asyncio
async def test_a_task_runs_only_while_something_waits() -> None:
    one = Process(SharedMemory(FakeClock()), limits=Limits(interval_s=2.0))
    back: WriteBack = one.core.write_back
    assert tasks() == []
    await one.put("v", policy=BACK)
    await one.put("w", policy=BACK)
    assert tasks() == ["write-back"]
    await one.clock.advance(1.9)
    assert back.flushed == 0
    await one.clock.advance(0.2)
    assert (back.flushed, tasks()) == (1, [])


@pytest.mark.asyncio
async def test_with_l2_down_it_goes_on_trying() -> None:
    one = Process(SharedMemory(FakeClock()))
    await one.core.generations.take(ALL)
    one.l2.shared.down = True
    await one.put("v", policy=BACK)
    await one.clock.advance(5.0)
    assert one.core.write_back.trouble
    assert one.core.generations.dirty.keys() == {KEY}
    assert not one.core.generations.told(KEY)
    one.l2.shared.down = False
    await one.clock.advance(1.1)
    assert one.core.generations.told(KEY)
    assert (one.core.write_back.trouble, tasks()) == ("", [])


def test_another_loop_writes_what_an_ended_one_left() -> None:
    one = Process(SharedMemory(FakeClock()))
    one.l2.shared.down = True
    one.core.generations.deaf = False

    async def first() -> None:
        one.l2.shared.down = False
        await one.core.generations.take(ALL)
        one.l2.shared.down = True
        await one.put("v", policy=BACK)

    async def second() -> int:
        one.l2.shared.down = False
        await one.put("w", KEY + "2", BACK)
        return await one.core.flush()

    asyncio.run(first())
    assert len(one.core.write_back.queue) == 1
    assert asyncio.run(second()) == 2
