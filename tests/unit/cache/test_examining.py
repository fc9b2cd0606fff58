"""Whether the tiers agree: what is found, what is healed, and what is no difference."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.races.core_kit import ALL, KEY, Process, processes

from querycache.cache.policy import Policy
from querycache.errors import TierError
from querycache.events import Difference, Healed
from querycache.ports.tiers import Read
from querycache.values import Kind

pytestmark = pytest.mark.asyncio

EMBEDDINGS = Policy(kind=Kind.EMBEDDING, immutable=True, ttl=100.0)


async def edited(one: Process, other: Process, old: object, new: object) -> None:
    """`one` has the old value in L1; another process wrote the new one, and `one` did not hear."""
    await one.put(old)
    await one.l2.shared.clock.advance(1.0)
    one.l2.backplane.cut = True
    await other.put(new)


async def test_what_l2_has_newer_is_found_and_healed() -> None:
    async with processes(2) as (one, other):
        await edited(one, other, "old", "new")
        assert await one.get() == "old"
        found = await one.core.examiner.reconcile([KEY])
        assert (found.compared, found.missing, found.differing) == (1, 0, {KEY: "newer"})
        assert one.observer.of(Healed) == [Healed(KEY, "newer")]
        assert await one.get() == "new"
        assert (await one.core.examiner.reconcile([KEY])).differing == {}


@pytest.mark.parametrize(("back_s", "how"), [(0.0, "altered"), (5.0, "older")])
async def test_what_l2_has_otherwise_is_told_apart(back_s: float, how: Difference) -> None:
    async with processes(2) as (one, other):
        one.l2.backplane.cut = True
        await other.put("before")
        before = one.l2.shared.entries[KEY]
        await one.l2.shared.clock.advance(back_s)
        await one.put("after")
        one.l2.shared.entries[KEY] = before
        assert (await one.core.examiner.reconcile([KEY])).differing == {KEY: how}
        assert await one.get() == "before"


async def test_what_does_not_open_is_a_difference() -> None:
    async with processes() as (one,):
        await one.put("value")
        one.l2.shared.entries[KEY] = (b"edited by hand", 2e9)
        found = await one.core.examiner.reconcile([KEY])
        assert found.differing == {KEY: "unreadable"}
        assert KEY not in one.l1.entries
        assert await one.get() is None


async def test_what_l2_gave_up_is_still_true() -> None:
    async with processes() as (one,):
        await one.put("value")
        del one.l2.shared.entries[KEY]
        found = await one.core.examiner.reconcile([KEY, "codebase_rag:other:_:absent"])
        assert (found.compared, found.missing, found.differing) == (1, 1, {})
        assert await one.get() == "value"


async def test_what_l2_would_not_serve_is_no_difference() -> None:
    async with processes(2) as (one, other):
        await other.put("invalid")
        dead = one.l2.shared.entries[KEY]
        await other.core.invalidate(ALL)
        await one.put("value")
        one.l2.shared.entries[KEY] = dead
        found = await one.core.examiner.reconcile([KEY])
        assert (found.missing, found.differing) == (1, {})
        assert await one.get() == "value"


async def test_news_that_is_on_its_way_is_no_difference() -> None:
    async with processes(2) as (one, other):
        await one.put("old")
        await other.put("new")
        found = await one.core.examiner.reconcile([KEY])
        assert (found.compared, found.differing) == (0, {})
        assert await one.get() == "new"


async def test_a_change_that_lands_between_the_looks_is_no_difference() -> None:
    async with processes(2) as (one, other):
        await edited(one, other, "old", "new")
        read = one.l2.read
        looks = 0

        async def twice(keys: Sequence[str], *, fenced: bool = True) -> list[Read]:
            nonlocal looks
            looks += 1
            reads = await read(keys, fenced=fenced)
            if looks == 2:
                one.l2.backplane.cut = False
                await other.core.remove([KEY])
            return reads

        one.l2.read = twice
        assert (await one.core.examiner.reconcile([KEY])).differing == {}
        assert looks == 2
        assert one.observer.of(Healed) == []


async def test_what_is_on_its_way_into_l1_is_left_alone() -> None:
    async with processes(2) as (one, other):
        await edited(one, other, "old", "new")
        claims = one.core.writer.claims
        claim = claims.claim(KEY)
        assert (await one.core.examiner.reconcile([KEY])).differing == {}
        assert claims.redeem(KEY, claim)
        assert KEY in one.l1.entries


async def test_what_l2_was_not_told_yet_is_no_difference() -> None:
    async with processes() as (one,):
        await one.put("old")
        one.l2.shared.down = True
        await one.put("new")
        one.l2.shared.down = False
        assert (await one.core.examiner.reconcile([KEY])).compared == 0
        assert await one.get() == "new"


async def test_without_l2_nothing_is_dropped() -> None:
    async with processes() as (one,):
        await one.put("value")
        one.l2.shared.down = True
        with pytest.raises(TierError):
            await one.core.examiner.reconcile([KEY])
        assert await one.get() == "value"


async def test_l2_is_asked_once_for_all() -> None:
    async with processes() as (one,):
        keys = [f"codebase_rag:embedding:_:{number}" for number in range(60)]
        await one.core.put({key: [number] for number, key in enumerate(keys)}, EMBEDDINGS)
        asked: list[tuple[int, bool]] = []
        read = one.l2.read

        async def counted(keys: Sequence[str], *, fenced: bool = True) -> list[Read]:
            asked.append((len(keys), fenced))
            return await read(keys, fenced=fenced)

        one.l2.read = counted
        found = await one.core.examiner.reconcile(keys)
        assert (found.compared, found.differing) == (60, {})
        assert asked == [(60, False)]
