"""The dirty queue's background work; its rules are in tests/races."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.races.core_kit import ALL, KEY, Process

from querycache.cache.policy import Policy
from querycache.cache.waiting import Limits
from querycache.cache.write_back import WriteBack
from querycache.ports.tiers import Changes, Read, Write
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


@pytest.mark.asyncio
async def test_news_that_come_behind_the_guards_are_heard_before_the_write() -> None:
    """A server may send a guard, and after it the news of a change that came before."""
    shared = SharedMemory(FakeClock())
    one, two = Process(shared), Process(shared)
    await one.put("mine", policy=BACK)
    read, drain = one.l2.read, one.l2.backplane.drain
    answers = 0

    async def answered(keys: Sequence[str], *, fenced: bool = True) -> list[Read]:
        nonlocal answers
        answers += KEY in keys
        return await read(keys, fenced=fenced)

    one.l2.read = answered
    one.l2.backplane.drain = lambda: drain() if answers > 1 else Changes(seen=-1)
    await two.put("theirs")
    assert await one.core.flush() == 0
    one.l2.read, one.l2.backplane.drain = read, drain
    assert await two.get() == "theirs"
    await one.core.close()


@pytest.mark.asyncio
async def test_the_end_of_a_process_is_bounded_also_where_l2_is_slow() -> None:
    one = Process(SharedMemory(FakeClock()), limits=Limits(batch=1, interval_s=99.0, drain_s=2.0))
    for number in range(10):
        one.core.write_back.queue.put(
            Write(f"{KEY}-{number}", b"v", one.clock.wall() + 900.0, tell=False), (), 0.0
        )
    write = one.l2.write

    async def slow(writes: Sequence[Write]) -> list[bool]:
        await one.clock.sleep(0.5)
        return await write(writes)

    one.l2.write = slow
    closing = asyncio.ensure_future(one.core.close())
    for _ in range(6):
        await one.clock.advance(0.5)
    assert closing.done()
    assert await closing > 0


@pytest.mark.asyncio
async def test_no_trouble_is_left_where_nothing_waits() -> None:
    one = Process(SharedMemory(FakeClock()))
    await one.get()
    one.l2.shared.down = True
    one.core.write_back.queue.put(Write(KEY, b"v", one.clock.wall() + 900.0, tell=False), (), 0.0)
    await one.core.flush()
    assert one.core.write_back.trouble
    one.core.write_back.forget(KEY)
    one.l2.shared.down = False
    await one.put("v", policy=BACK)
    one.core.write_back.forget(KEY)
    await one.clock.advance(1.1)
    assert one.core.write_back.trouble == ""


def test_a_loop_that_stands_still_in_the_middle_of_a_flush_does_not_hang_the_end() -> None:
    one = Process(SharedMemory(FakeClock()), limits=Limits(drain_s=0.0))
    write = one.l2.write
    reached, flushes = asyncio.Event(), list[asyncio.Future[int]]()

    async def never(writes: Sequence[Write]) -> list[bool]:
        reached.set()
        await asyncio.Event().wait()
        return await write(writes)

    async def first() -> None:
        await one.put("v", policy=BACK)
        one.l2.write = never
        flushes.append(asyncio.ensure_future(one.core.flush()))  # else it may be collected
        await reached.wait()

    async def last() -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        assert flushes[0].cancelled()

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(first())
        one.l2.write = write
        assert asyncio.run(asyncio.wait_for(one.core.close(), 10.0)) == 1
    finally:
        loop.run_until_complete(last())
        loop.close()
