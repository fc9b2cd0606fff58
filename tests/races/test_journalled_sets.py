"""What a journal promises: a set that was acknowledged is in L2 or in the journal, at any
moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.races.core_kit import ALL, KEY, Process
from tests.races.test_write_strategies import BACK, Gate, in_l2, loses_news

from querycache.cache.waiting import Limits
from querycache.ports.journal import Recorded
from querycache.testing import FakeClock, SharedMemory

pytestmark = pytest.mark.asyncio


class Paper:
    """A journal that shows what it holds; who appends waits while it is `slow`."""

    def __init__(self) -> None:
        self.held: dict[int, Recorded] = {}
        self.slow = False
        self._waiting: list[asyncio.Event] = []

    def release(self) -> None:
        """Answers the append that has waited longest."""
        self._waiting.pop(0).set()

    async def append(self, records: Sequence[Recorded]) -> None:
        if self.slow:
            answer = asyncio.Event()
            self._waiting.append(answer)
            await answer.wait()
        self.held |= {record.number: record for record in records}

    def remove(self, key: str, number: int) -> None:
        old = [at for at, r in self.held.items() if r.write.key == key and at <= number]
        for at in old:
            del self.held[at]

    async def adopt(self) -> None: ...

    async def close(self) -> None: ...


async def journalled(limits: Limits = Limits()) -> tuple[Process, Paper]:  # noqa: B008 -- immutable
    paper = Paper()
    one = Process(SharedMemory(FakeClock()), limits=limits, journal=paper)
    await one.core.generations.take(ALL)
    await one.get()
    return one, paper


async def test_a_set_stays_until_the_one_that_replaced_it_is_kept() -> None:
    one, paper = await journalled()
    paper.slow = True
    first = asyncio.ensure_future(one.put("first", policy=BACK))
    second = asyncio.ensure_future(one.put("second", policy=BACK))
    await one.clock.settle()
    paper.release()
    assert await first
    assert len(paper.held) == 1
    paper.release()
    assert await second
    await one.core.flush()
    assert await in_l2(one) == "second"
    assert paper.held == {}
    await one.core.close()


async def test_a_set_that_l2_fails_to_take_while_nobody_tells_is_kept() -> None:
    one, paper = await journalled()
    loses_news(one, deaf=True)
    one.l2.shared.down = True
    assert await one.put("v", policy=BACK)
    assert [record.write.key for record in paper.held.values()] == [KEY]
    one.l2.shared.down = False
    loses_news(one)
    assert await one.core.settle()
    assert await in_l2(one) == "v"
    assert paper.held == {}


async def test_what_waited_stays_until_l2_has_what_goes_through() -> None:
    one, paper = await journalled(Limits(bytes=2000))
    await one.put("waits", policy=BACK)
    gate = Gate(one)
    large = asyncio.ensure_future(one.put(list(range(5000)), policy=BACK))
    await gate.reached.wait()
    assert len(paper.held) == 1
    gate.opened.set()
    assert await large
    assert paper.held == {}
    assert await in_l2(one) == list(range(5000))


async def test_what_is_kept_for_later_stays_until_the_next_set_is_kept() -> None:
    one, paper = await journalled()
    await one.put("first", policy=BACK)
    loses_news(one)
    one.core.generations.catch_up()
    assert one.core.recovery.waiting == 1
    paper.slow = True
    second = asyncio.ensure_future(one.put("second", policy=BACK))
    await one.clock.settle()
    assert len(paper.held) == 1
    paper.release()
    assert await second
    await one.core.flush()
    assert paper.held == {}
    await one.core.close()


async def test_what_is_owed_of_a_name_that_waits_moves_no_guard() -> None:
    one, paper = await journalled()
    one.core.generations.owe([KEY])
    await one.put("v", policy=BACK)
    (record,) = paper.held.values()
    await one.core.settle()
    assert await one.l2.write([record.write]) == [True]  # as who adopts it would
    await one.core.close()
