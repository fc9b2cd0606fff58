"""The view of the counters never goes back; what is owed is masked until it is paid."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import pytest

from querycache.cache.generations import Generations
from querycache.errors import TierError
from querycache.ports.tiers import Backplane, Changes
from querycache.testing import FakeClock, MemoryL2, SharedMemory
from querycache.values import Kind, Stamp

pytestmark = pytest.mark.asyncio


def view() -> tuple[Generations, MemoryL2, list[Changes]]:
    l2 = MemoryL2(SharedMemory(FakeClock()))
    seen: list[Changes] = []
    return Generations(l2, l2.backplane, seen.append), l2, seen


async def test_stamps_stand_until_one_moves() -> None:
    generations, _, seen = view()
    stamps = await generations.take(("a", "b"))
    assert generations.stand(stamps)
    assert generations.moved(stamps) == ""
    world = generations.world
    assert await generations.bump(["b"])
    assert generations.world > world
    assert not generations.stand(stamps)
    assert generations.moved(stamps) == "b"
    assert seen[-1].tags.keys() == {"b"}


async def test_equal_stamps_are_one_object() -> None:
    generations, _, _ = view()
    stamps = await generations.take(("a", "b"))
    assert await generations.take(("a", "b")) is stamps


async def test_an_unknown_counter_counts_as_moved() -> None:
    generations, _, _ = view()
    assert not generations.stand((("never seen", Stamp(1, 0)),))


async def test_what_another_process_bumped_is_heard_of() -> None:
    generations, l2, _ = view()
    stamps = await generations.take(("a",))
    other = MemoryL2(l2.shared)
    await other.bump(["a"])
    assert generations.stand(stamps)
    assert generations.catch_up()
    assert not generations.stand(stamps)


async def test_a_late_answer_never_takes_a_newer_stamp_back() -> None:
    generations, l2, _ = view()
    other = MemoryL2(l2.shared)
    answer = l2.stamps

    async def late(tags: list[str]) -> dict[str, Stamp]:
        old = await answer(tags)
        await other.bump(tags)
        generations.catch_up()  # the news overtakes the answer
        return old

    l2.stamps = late  # pyright: ignore[reportAttributeAccessIssue]
    stamps = await generations.take(("a",))
    assert stamps == (("a", Stamp(1, 1)),)


async def test_what_was_asked_before_the_channel_was_lost_fills_nothing() -> None:
    generations, l2, _ = view()
    answer = l2.stamps

    async def late(tags: list[str]) -> dict[str, Stamp]:
        old = await answer(tags)
        l2.backplane.drain = lambda: Changes(seen=-1, lost=True)  # type: ignore[method-assign]
        l2.shared.tell(0, "key", "k")
        generations.catch_up()
        return old

    l2.stamps = late  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TierError):
        await generations.take(("a",))


async def test_an_invalidation_that_could_not_be_told_holds_here_and_is_paid_later() -> None:
    generations, l2, _ = view()
    stamps = await generations.take(("a",))
    l2.shared.down = True
    assert not await generations.bump(["a"])
    generations.owed_keys.add("k")
    assert not generations.stand(stamps)
    assert not await generations.settle()
    l2.shared.down = False
    assert await generations.settle()
    assert (generations.owed_keys, generations.owed_tags) == (set(), set())
    assert {name for _, _, name in l2.shared.log} == {"a", "k"}
    assert not generations.stand(stamps)


async def test_losing_the_channel_keeps_the_mask_of_what_is_owed() -> None:
    generations, l2, _ = view()
    stamps = await generations.take(("a",))
    l2.shared.down = True
    await generations.bump(["a"])
    l2.shared.down = False
    l2.backplane.drain = lambda: Changes(seen=0, lost=True)  # type: ignore[method-assign]
    l2.shared.epoch[0] += 1
    generations.catch_up()
    await generations.learn(["a"])
    assert not generations.stand(stamps)


async def test_what_is_owed_is_bounded() -> None:
    generations, l2, _ = view()
    stamps = await generations.take(("kind:file",))
    l2.shared.down = True
    for start in range(0, 10_500, 500):
        generations.owe(f"k{number}" for number in range(start, start + 500))
    assert len(generations.owed_keys) <= 10_000
    assert generations.owed_tags == {f"kind:{kind}" for kind in Kind}
    assert not generations.stand(stamps)  # whatever is masked no longer one by one
    l2.shared.down = False
    assert await generations.settle()
    assert not generations.stand(stamps)
    assert generations.stand(await generations.take(("kind:file",)))


class NamesOnly:
    """A backplane that tells which counters moved, and not where to."""

    def __init__(self, backplane: Backplane) -> None:
        self.epoch = backplane.epoch
        self.hears_until = backplane.hears_until
        self.close = backplane.close
        self._backplane = backplane

    def drain(self) -> Changes:
        changes = self._backplane.drain()
        return msgspec.structs.replace(changes, tags=dict.fromkeys(changes.tags))


class Overtaken(MemoryL2):
    """Another process bumps the same, and is heard of, before the answer to a bump arrives."""

    meanwhile: Callable[[], object]

    async def bump(self, tags: Sequence[str]) -> dict[str, Stamp]:
        stamps = await super().bump(tags)
        await MemoryL2(self.shared).bump(tags)
        self.meanwhile()
        return stamps


async def test_an_answer_that_was_overtaken_is_not_believed() -> None:
    l2 = Overtaken(SharedMemory(FakeClock()))
    generations = Generations(l2, NamesOnly(l2.backplane), lambda _: None)
    l2.meanwhile = generations.catch_up
    assert await generations.bump(["a"])
    assert generations.now("a") is None
    assert await generations.take(("a",)) == tuple((await l2.stamps(["a"])).items())


async def test_what_is_owed_is_paid_in_batches_that_l2_takes_in_time() -> None:
    generations, l2, _ = view()
    generations.owe(f"k{number}" for number in range(250))
    remove, sizes = l2.remove, list[int]()

    async def counted(keys: Sequence[str]) -> int:
        sizes.append(len(keys))
        return await remove(keys)

    l2.remove = counted
    assert await generations.settle()
    assert sizes == [100, 100, 50]
