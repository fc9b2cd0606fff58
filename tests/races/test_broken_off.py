"""What is left when a call is broken off, refused or fails half way: nothing old, no claim, and no
view of the counters that goes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from threading import Thread

import numpy as np
import pytest
from tests.races.core_kit import ALL, KEY, PLAIN, Origin, processes

from querycache.cache import generations
from querycache.cache.claims import Claims
from querycache.cache.policy import Policy
from querycache.errors import UsageError
from querycache.events import Missed
from querycache.ports.tiers import Changes, Write
from querycache.values import Stamp

pytestmark = pytest.mark.asyncio


async def _cancelled(task: asyncio.Task[object], started: asyncio.Event) -> None:
    await started.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_senseless_life_leaves_no_claim() -> None:
    async with processes() as (one,):
        with pytest.raises(UsageError):
            await one.core.put({KEY: 1}, PLAIN, tags=ALL, ttl=-1)
        assert len(one.core.writer.claims) == 0
        assert await one.put(2)
        assert KEY in one.l1.entries


async def test_a_set_that_can_not_be_stamped_leaves_nothing_old() -> None:
    async with processes() as (one,):
        await one.put("old")
        one.l2.shared.down = True
        assert await one.core.put({KEY: "new"}, PLAIN, tags=(*ALL, "unknown")) == [False]
        assert await one.get() is None
        one.l2.shared.down = False
        assert await one.core.generations.settle()
        assert KEY not in one.l2.shared.entries


async def test_a_cancelled_set_that_lands_all_the_same_leaves_nothing_old() -> None:
    async with processes(2) as (one, two):
        await one.put("old")
        assert await two.get() == "old"
        landed = asyncio.Event()
        real = one.l2.write

        async def write(writes: Sequence[Write]) -> list[bool]:
            done = await real(writes)
            landed.set()
            await asyncio.Event().wait()
            return done

        one.l2.write = write
        await _cancelled(asyncio.ensure_future(one.put("new")), landed)
        assert await two.get() == "new"
        assert await one.get() is None
        assert await one.core.generations.settle()
        assert await two.get() is None


async def test_a_cancelled_delete_holds_here_and_is_done_later() -> None:
    async with processes(2) as (one, two):
        await one.put("old")
        assert await two.get() == "old"
        asked = asyncio.Event()
        real = one.l2.remove

        async def remove(keys: Sequence[str]) -> int:
            asked.set()
            await asyncio.Event().wait()
            return len(keys)

        one.l2.remove = remove
        await _cancelled(asyncio.ensure_future(one.core.remove([KEY])), asked)
        assert await one.get() is None
        one.l2.remove = real
        assert await one.core.generations.settle()
        assert await two.get() is None


async def test_a_cancelled_invalidation_holds_here_and_is_done_later() -> None:
    async with processes(2) as (one, two):
        await one.put("old")
        assert await two.get() == "old"
        asked = asyncio.Event()
        real = one.l2.bump

        async def bump(tags: Sequence[str]) -> dict[str, Stamp]:
            asked.set()
            await asyncio.Event().wait()
            return await real(tags)

        one.l2.bump = bump
        await _cancelled(asyncio.ensure_future(one.core.invalidate(ALL)), asked)
        assert await one.get() is None
        one.l2.bump = real
        assert await one.core.generations.settle()
        assert await two.get() is None


async def test_a_load_older_than_a_delete_that_is_owed_does_not_pay_for_it() -> None:
    async with processes() as (one,):
        origin = Origin("old")
        load = asyncio.ensure_future(one.core.get_or_load(KEY, PLAIN, origin, tags=ALL))
        await origin.started.wait()
        one.l2.shared.down = True
        await one.core.remove([KEY])
        one.l2.shared.down = False
        origin.open()
        assert (await load).value == "old"
        assert await one.get() is None
        assert await one.core.generations.settle()
        assert await one.get() is None


async def test_who_joins_a_load_gets_a_value_of_its_own() -> None:
    async with processes() as (one,):
        for value in ([1], np.zeros(2)):
            origin = Origin(value)
            asked = [
                asyncio.ensure_future(one.core.get_or_load(f"{KEY}{id(value)}", PLAIN, origin))
                for _ in range(3)
            ]
            await origin.started.wait()
            origin.open()
            first, *others = [(await answer).value for answer in asked]
            assert first is value
            value[0] = 7
            assert [other[0] for other in others if isinstance(other, type(value))] == [
                1 if isinstance(value, list) else 0.0
            ] * 2


async def test_who_leaves_a_retired_flight_does_not_retire_its_successor() -> None:
    async with processes() as (one,):
        first, second, third = Origin(1), Origin(2), Origin(3)
        leaving = asyncio.ensure_future(one.core.get_or_load(KEY, PLAIN, first, tags=ALL))
        await first.started.wait()
        await one.core.invalidate(ALL)
        staying = asyncio.ensure_future(one.core.get_or_load(KEY, PLAIN, second, tags=ALL))
        await second.started.wait()
        leaving.cancel()
        await one.clock.settle()
        joining = asyncio.ensure_future(one.core.get_or_load(KEY, PLAIN, third, tags=ALL))
        await one.clock.settle()
        second.open()
        assert (await staying).value == (await joining).value == 2
        assert third.calls == 0


async def test_a_batch_that_breaks_off_leaves_no_claim() -> None:
    async with processes() as (one,):

        async def load(keys: list[str]) -> dict[str, object]:
            return {keys[0]: 1, "a stranger": 2}

        with pytest.raises(KeyError):
            await one.core.get_or_load_many([f"{KEY}1", f"{KEY}2"], PLAIN, load, tags=ALL)
        assert len(one.core.writer.claims) == 0


async def test_an_emptied_view_keeps_the_masks_and_takes_no_older_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(generations, "_KNOWN_LIMIT", 3)
    async with processes() as (one,):
        view = one.core.generations
        await one.put("old")
        one.l2.shared.down = True
        await one.core.invalidate(ALL)
        one.l2.shared.down = False
        for start in (0, 5):
            await view.learn([f"tag {start + place}" for place in range(5)])
        assert await one.get() is None


async def test_the_view_is_bounded_whatever_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "_BOUND_LIMIT", 4)
    monkeypatch.setattr(generations, "_KNOWN_LIMIT", 8)
    async with processes(2) as (one, two):
        view = one.core.generations
        for place in range(50):
            await two.core.invalidate([f"tag {place}"])
            view.catch_up()
        assert sum(view.now(f"tag {place}") is not None for place in range(50)) <= 9
        first = await view.take(ALL)
        assert await view.take(ALL) is first
        for length in range(4):
            await view.take(ALL * (length + 2))
        assert await view.take(ALL) is not first


async def test_a_tag_moved_elsewhere_does_not_lift_the_mask_of_what_is_owed() -> None:
    async with processes(2) as (one, two):
        await one.put("x")
        await two.core.invalidate(ALL)
        await two.put("old")
        one.l2.shared.down = True
        await one.core.invalidate(ALL)
        one.l2.shared.down = False
        assert await one.get() is None


async def test_a_tag_moved_elsewhere_takes_what_was_stored_under_the_mask() -> None:
    async with processes(2) as (one, two):
        await one.put("x")
        one.l2.shared.down = True
        await one.core.invalidate(ALL)
        one.l2.shared.down = False
        await one.put("stored under the mask")
        await two.core.invalidate(ALL)
        assert await one.get() is None
        assert await one.core.settle()


async def test_with_the_channel_down_l2_is_judged_by_its_own_counters() -> None:
    async with processes(2) as (one, two):
        await one.put("old")
        await two.core.invalidate(ALL)
        one.l2.backplane.drain = lambda: Changes(seen=-1, bypass=True)
        assert await one.get() is None


async def test_a_miss_of_a_plain_get_says_why() -> None:
    async with processes() as (one,):
        await one.get()
        assert one.observer.of(Missed) == [Missed(KEY, "absent")]


async def test_what_only_l1_could_hold_and_can_not_is_not_called_kept() -> None:
    alone = Policy(l2=False, max_l1_bytes=10)
    async with processes() as (one,):
        assert await one.core.put({KEY: "x" * 100}, alone, tags=ALL) == [False]
        assert KEY not in one.l1.entries


async def test_nobody_voids_a_claim_between_its_end_and_its_entry() -> None:
    claims = Claims()
    token = claims.claim(KEY)
    thread = Thread(target=claims.void, args=(KEY,))

    def put() -> None:
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()

    assert claims.land(KEY, token, put)
    thread.join()
    assert len(claims) == 0
