"""The write strategies and the recovery queue: whatever overlaps, fails or is lost, nothing older
lands on something newer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from tests.races.core_kit import ALL, KEY, Origin, Process, processes

from querycache.cache.policy import Policy
from querycache.cache.waiting import Limits
from querycache.errors import TierError
from querycache.events import NotStored, TierFailed
from querycache.ports.journal import Recorded
from querycache.ports.tiers import Changes, Write
from querycache.tiers.sqlite.journal import SqliteJournal

pytestmark = pytest.mark.asyncio

THROUGH = Policy(ttl=100.0)
AROUND = Policy(ttl=100.0, strategy="WRITE_AROUND")
BACK = Policy(ttl=100.0, strategy="WRITE_BACK")
CONTENT = Policy(ttl=100.0, strategy="WRITE_BACK", immutable=True)
OTHER = KEY + "2"


async def in_l2(process: Process, key: str = KEY) -> object:
    """What a process that has just started would find."""
    fresh = Process(process.l2.shared)
    return await fresh.get(key)


class Gate:
    """Holds the writes of a process to L2 until it is opened."""

    def __init__(self, process: Process, *, lands_first: bool = False) -> None:
        self.reached, self.opened = asyncio.Event(), asyncio.Event()
        self._write = process.l2.write
        self._lands_first = lands_first
        process.l2.write = self

    async def __call__(self, writes: Sequence[Write]) -> list[bool]:
        done: list[bool] = []
        if self._lands_first:
            done = await self._write(writes)
        self.reached.set()
        await self.opened.wait()
        return done or await self._write(writes)


def loses_news(process: Process, *, deaf: bool = False) -> None:
    """The channel is lost at the next drain."""
    drain = process.l2.backplane.drain

    def lost() -> Changes:
        process.l2.backplane.drain = drain
        return msgspec.structs.replace(drain(), keys=(), tags={}, lost=True, deaf=deaf)

    process.l2.backplane.drain = lost
    process.l2.shared.tell(process.l2.source, "key", "nothing")


# --- write-around --------------------------------------------------------------------------------


async def test_around_l1_drops_its_copy_and_the_next_read_fills_it() -> None:
    async with processes(2) as (one, two):
        await one.put("old", policy=THROUGH)
        assert await two.get() == "old"
        assert await one.put("new", policy=AROUND)
        assert KEY not in one.l1.entries
        assert await two.get() == "new"
        tiers = [(await one.core.get(KEY, AROUND)).tier for _ in range(2)]
        assert tiers == ["l2", "l1"]


async def test_around_a_load_goes_to_l2_alone() -> None:
    async with processes(2) as (one, two):
        answer = await one.core.get_or_load(KEY, AROUND, Origin("v").open(), tags=ALL)
        assert answer.value == "v"
        assert KEY not in one.l1.entries
        assert await two.get() == "v"


async def test_around_with_l2_down_l1_has_it_and_l2_gets_it_later() -> None:
    async with processes(2) as (one, two):
        await one.get()
        await one.core.generations.take(ALL)
        one.l2.shared.down = True
        assert await one.put("v", policy=AROUND)
        assert await one.get(policy=AROUND) == "v"
        one.l2.shared.down = False
        assert await one.core.settle()
        assert await two.get() == "v"


@pytest.mark.parametrize("strategy", ["WRITE_THROUGH", "WRITE_BACK", "WRITE_AROUND"])
async def test_without_l2_every_strategy_keeps_in_l1_and_nothing_waits(strategy: str) -> None:
    alone = msgspec.convert({"ttl": 100.0, "l2": False, "strategy": strategy}, Policy)
    off = msgspec.structs.replace(alone, l1=False)
    async with processes() as (one,):
        assert await one.put("v", policy=alone)
        assert await one.get(policy=alone) == "v"
        assert not await one.put("v", OTHER, off)
        assert await one.get(OTHER, off) is None
        assert len(one.core.write_back.queue) == 0
        assert await one.core.flush() == 0


# --- write-back ----------------------------------------------------------------------------------


async def test_back_is_answered_before_l2_has_it_and_told_when_it_has() -> None:
    async with processes(2) as (one, two):
        await two.put("old", policy=THROUGH)
        assert await one.put("new", policy=BACK)
        assert await one.get(policy=BACK) == "new"
        assert await two.get() == "old"
        await one.clock.advance(1.01)
        assert await two.get() == "new"
        assert len(one.core.write_back.queue) == 0


async def test_back_a_reader_sees_what_waits_whatever_l1_holds() -> None:
    async with processes() as (one,):
        await one.put("old", policy=THROUGH)
        await one.put("new", policy=BACK)
        one.l1.clear()
        assert await one.get(policy=BACK) == "new"
        assert await one.get(policy=BACK) == "new"
        one.l1.clear()
        one.l2.shared.down = True
        found = await one.core.get_many([KEY, OTHER], BACK)
        assert {key: answer.value for key, answer in found.items()} == {KEY: "new"}


async def test_back_keeps_the_life_that_is_left() -> None:
    async with processes(2, Limits(interval_s=1000.0)) as (one, two):
        await one.put("v", policy=BACK)
        await one.clock.advance(90.0)
        assert await one.core.flush() == 1
        assert await two.get() == "v"
        assert two.l1.entries[KEY].expires - two.clock.now <= 10.0
        await one.clock.advance(10.1)
        assert await two.get() is None


async def test_back_what_expires_before_l2_has_it_leaves_nothing_older() -> None:
    async with processes(2, Limits(interval_s=1000.0)) as (one, two):
        await two.put("old", policy=Policy(ttl=500.0))
        await one.core.put({KEY: "new"}, BACK, tags=ALL, ttl=10.0)
        await one.clock.advance(11.0)
        assert await one.get(policy=BACK) is None
        assert await one.core.flush() == 0
        assert await one.core.settle()
        assert await two.get() is None


async def test_back_the_newest_of_a_key_wins_and_is_one_write() -> None:
    async with processes() as (one,):
        for number in range(5):
            await one.put(number, policy=BACK)
        assert len(one.core.write_back.queue) == 1
        assert await one.core.flush() == 1
        assert await in_l2(one) == 4


async def test_back_a_set_during_a_flush_follows_it() -> None:
    async with processes() as (one,):
        await one.put("first", policy=BACK)
        gate = Gate(one)
        flush = asyncio.ensure_future(one.core.flush())
        await gate.reached.wait()
        await one.put("second", policy=BACK)
        both = asyncio.ensure_future(one.core.flush())
        await one.clock.settle()
        assert not both.done()  # one write of a key at a time
        gate.opened.set()
        assert (await flush, await both) == (1, 1)
        assert await in_l2(one) == "second"
        assert await one.get(policy=BACK) == "second"


@pytest.mark.parametrize("lands", [False, True])
async def test_back_a_flush_that_fails_is_tried_again(lands: bool) -> None:  # noqa: FBT001 -- a case
    async with processes() as (one,):
        await one.put("old", policy=THROUGH)
        await one.put("new", policy=BACK)
        real = one.l2.write

        async def fails(writes: Sequence[Write]) -> list[bool]:
            if lands:
                await real(writes)
            raise TierError("the answer was lost")

        one.l2.write = fails
        assert await one.core.flush() == 0
        assert one.core.write_back.trouble
        assert await one.get(policy=BACK) == "new"
        one.l2.write = real
        await one.put("newest", policy=BACK)
        assert await one.core.flush() == 1
        assert await in_l2(one) == await one.get(policy=BACK) == "newest"
        assert not one.core.write_back.trouble


async def test_back_one_entry_that_l2_refuses_does_not_stop_the_others() -> None:
    async with processes() as (one,):
        real = one.l2.write

        async def fails(writes: Sequence[Write]) -> list[bool]:
            if any(write.key == KEY for write in writes):
                raise TierError("this one is too large")
            return await real(writes)

        one.l2.write = fails
        await one.put("bad", policy=BACK)
        for number in range(20):
            await one.put(number, f"{KEY}-{number}", BACK)
        for _ in range(30):
            await one.core.flush()
        assert list(one.core.write_back.queue.items) == [KEY]
        one.l2.write = real


@pytest.mark.parametrize("moment", ["before", "during", "after it landed"])
async def test_back_a_delete_takes_what_waits_with_it(moment: str) -> None:
    async with processes(2) as (one, two):
        await one.put("old", policy=THROUGH)
        await one.put("new", policy=BACK)
        if moment == "before":
            assert await one.core.remove([KEY]) == 1
        else:
            gate = Gate(one, lands_first=moment != "during")
            flush = asyncio.ensure_future(one.core.flush())
            await gate.reached.wait()
            await one.core.remove([KEY])
            gate.opened.set()
            await flush
        await one.core.flush()
        assert await one.get(policy=BACK) is None
        assert await two.get() is None


@pytest.mark.parametrize("moment", ["before", "between guard and write"])
@pytest.mark.parametrize("what", ["delete", "set"])
async def test_back_a_change_elsewhere_is_not_undone(moment: str, what: str) -> None:
    async with processes(2) as (one, two):
        await one.put("old", policy=THROUGH)
        await one.put("mine", policy=BACK)

        async def change() -> None:
            if what == "delete":
                await two.core.remove([KEY])
            else:
                await two.put("theirs", policy=THROUGH)

        if moment == "before":
            await change()
            assert await one.core.flush() == 0
        else:
            gate = Gate(one)
            flush = asyncio.ensure_future(one.core.flush())
            await gate.reached.wait()
            await change()
            gate.opened.set()
            assert await flush == 0
        assert await one.get(policy=BACK) in (None, "theirs")
        assert await one.core.settle()
        assert await one.get(policy=BACK) == await two.get()
        assert await two.get() in (None, "theirs")


async def test_back_an_invalidated_tag_uncovers_nothing_older() -> None:
    async with processes(2) as (one, two):
        await one.put("old", policy=THROUGH)
        await one.core.put({KEY: "new"}, BACK, tags=(*ALL, "t"))
        await two.core.invalidate(["t"])
        assert await one.get(policy=BACK) is None
        assert await one.core.flush() == 0
        assert await one.core.settle()
        assert await two.get() is None


async def test_back_a_full_queue_writes_through_and_nothing_older_follows() -> None:
    async with processes(1, Limits(entries=2)) as (one,):
        for key in (KEY, OTHER):
            await one.put("waits", key, BACK)
        assert await one.put("through", KEY + "3", BACK)
        assert await in_l2(one, KEY + "3") == "through"
        assert await in_l2(one) is None
        assert one.core.write_back.overflowed == 1
        assert await one.put("again", KEY, BACK)  # takes the place of its own older one
        assert await one.core.flush() == 2
        assert await in_l2(one) == "again"


async def test_back_the_bytes_that_wait_are_bounded() -> None:
    async with processes(1, Limits(bytes=5000)) as (one,):
        large = random.Random(1).randbytes(6000)  # noqa: S311 -- what does not compress
        await one.put("small", policy=BACK)
        assert await one.put(large, policy=BACK)
        assert len(one.core.write_back.queue) == 0
        assert one.core.write_back.queue.bytes == 0
        assert await in_l2(one) == large


async def test_back_a_full_batch_does_not_wait_for_the_interval() -> None:
    async with processes(1, Limits(interval_s=1000.0, batch=4)) as (one,):
        for number in range(10):
            await one.put(number, f"{KEY}-{number}", BACK)
        await one.clock.settle(400)
        assert len(one.core.write_back.queue) < 4
        assert await in_l2(one, f"{KEY}-0") == 0


async def test_back_a_load_is_not_delayed_by_l2_and_keeps_its_guard() -> None:
    async with processes(2) as (one, two):
        gate = Gate(one)
        answer = await one.core.get_or_load(KEY, BACK, Origin("v").open(), tags=ALL)
        assert answer.value == "v"
        await one.get(policy=BACK)
        gate.opened.set()
        await one.core.flush()
        assert await two.get() == "v"


@pytest.mark.parametrize("what", ["delete", "set", "set behind", "invalidate"])
@pytest.mark.parametrize("who", [0, 1])
async def test_back_a_change_during_a_load_wins(what: str, who: int) -> None:
    async with processes(2) as both:
        origin = Origin("loaded")
        load = asyncio.ensure_future(both[0].core.get_or_load(KEY, BACK, origin, tags=ALL))
        await origin.started.wait()
        if what == "delete":
            await both[who].core.remove([KEY])
        elif what == "invalidate":
            await both[who].core.invalidate(ALL)
        else:
            await both[who].put("set", policy=THROUGH if what == "set" else BACK)
            await both[who].core.flush()
        origin.open()
        assert (await load).value == "loaded"
        for process in (*both, *both):
            assert await process.get(policy=BACK) == ("set" if "set" in what else None)
            await process.core.flush()
            await process.core.settle()


async def test_back_a_refresh_takes_the_place_of_what_waits() -> None:
    short = msgspec.structs.replace(BACK, fresh=10.0)
    async with processes(2, Limits(interval_s=1000.0)) as (one, two):
        await one.core.get_or_load(KEY, short, Origin("v1").open(), tags=ALL)
        await one.clock.advance(11.0)
        one.l1.clear()
        answer = await one.core.get_or_load(KEY, short, Origin("v2").open(), tags=ALL)
        assert (answer.value, answer.stale) == ("v1", True)
        await one.clock.settle()
        assert await one.get(policy=short) == "v2"
        assert len(one.core.write_back.queue) == 1
        await one.core.flush()
        assert await two.get() == "v2"


async def test_back_the_end_of_a_process_waits_for_l2_but_not_for_ever() -> None:
    async with processes(1, Limits(drain_s=2.0)) as (one,):
        await one.put("v", policy=BACK)
        one.l2.shared.down = True
        closing = asyncio.ensure_future(one.core.close())
        await one.clock.advance(1.0)
        assert not closing.done()
        await one.clock.advance(1.5)
        assert await closing == 1
        assert NotStored(KEY, "l2_down") in one.observer.events
        one.l2.shared.down = False
        await one.put("w", policy=BACK)
        assert await one.core.close() == 0
        assert await in_l2(one) == "w"


async def test_back_a_loop_that_ends_writes_what_waits() -> None:
    async with processes() as (one,):
        await one.put("v", policy=BACK)
        (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "write-back"]
        await one.clock.settle()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await in_l2(one) == "v"


async def test_back_content_is_neither_guarded_nor_told() -> None:
    async with processes(2) as (one, two):
        await one.put("v", policy=CONTENT)
        await two.core.remove([KEY])  # news of a name never make its content untrue
        await one.get(policy=CONTENT)
        assert await one.core.flush() == 1
        assert await two.get(policy=CONTENT) == "v"
        assert [row for row in one.l2.shared.log if row[0] == one.l2.source] == []


async def test_back_with_the_channel_lost_what_waits_is_judged_by_its_guard() -> None:
    for changed in (False, True):
        async with processes(2) as (one, two):
            await one.get()
            await one.get(OTHER)
            await one.put("mine", policy=BACK)
            await one.put("also mine", OTHER, BACK)
            if changed:
                await two.put("theirs", policy=THROUGH)
            loses_news(one)
            assert await one.get(policy=BACK) is None  # masked: nobody knows
            assert await one.core.settle()
            assert await one.get(OTHER, BACK) == "also mine"
            assert await one.get(policy=BACK) == await two.get() == (None if changed else "mine")


async def test_back_writes_through_while_nobody_tells() -> None:
    async with processes(2) as (one, two):
        loses_news(one, deaf=True)
        assert await one.put("v", policy=BACK)
        assert len(one.core.write_back.queue) == 0
        assert await two.get() == "v"


class FullDisk:
    """A journal that takes nothing."""

    async def append(self, records: Sequence[Recorded]) -> None:
        raise TierError(f"no room for {len(records)} writes")

    def remove(self, key: str, number: int) -> None: ...

    async def adopt(self) -> None: ...

    async def close(self) -> None: ...


async def test_back_a_journal_that_takes_nothing_has_writes_go_through() -> None:
    async with processes(1) as (two,):
        one = Process(two.l2.shared, journal=FullDisk())
        assert await one.put("v", policy=BACK)
        assert len(one.core.write_back.queue) == 0
        assert await one.get(policy=BACK) == await two.get() == "v"
        one.l2.shared.down = True
        assert await one.put("w", policy=BACK)
        assert await one.get(policy=BACK) == "w"
        one.l2.shared.down = False
        assert await one.core.settle()
        assert await two.get() == "w"
        await one.core.close()


async def test_back_a_journal_has_what_waits_and_no_more(tmp_path: Path) -> None:
    async with processes(1) as (two,):
        journal = SqliteJournal(str(tmp_path))
        one = Process(two.l2.shared, journal=journal)
        for number in range(3):
            await one.put(number, policy=BACK)
            await one.put(number, OTHER, BACK)
        await one.core.remove([OTHER])
        assert await one.core.flush() == 1
        await one.put("last", policy=BACK)
        await journal.close()  # as a kill would: the queue is not drained
        left = await SqliteJournal(str(tmp_path)).adopt()
        assert left is not None
        (record,) = left.records
        assert record.write.key == KEY
        assert record.write.guard is not None
        left.done()
        await one.core.close()


# --- recovery ------------------------------------------------------------------------------------


async def failed_set(one: Process, *, known: bool = True, policy: Policy = THROUGH) -> None:
    """A set that L2 did not take."""
    await one.core.generations.take(ALL)
    if known:
        await one.get(policy=policy)
    one.l2.shared.down = True
    assert await one.put("new", policy=policy)
    one.l2.shared.down = False


async def test_rule_16_a_failed_write_is_replayed() -> None:
    async with processes(2) as (one, two):
        await two.put("old")
        await failed_set(one)
        one.l1.clear()
        assert await one.get() is None  # what L2 holds is old
        assert one.core.recovery.waiting == 1
        assert await one.core.settle()
        assert await two.get() == await one.get() == "new"
        assert (one.core.recovery.recovered, one.core.recovery.waiting) == (1, 0)


async def test_rule_16_nothing_newer_is_overwritten() -> None:
    async with processes(2) as (one, two):
        await failed_set(one)
        await two.put("newer")
        assert await one.core.settle()
        assert await one.get() is None  # deleting is always safe
        assert await two.get() is None
        assert (one.core.recovery.recovered, one.core.recovery.dropped) == (0, 1)


async def test_rule_16_of_what_nothing_is_known_nothing_stays() -> None:
    async with processes(2) as (one, two):
        await two.put("old")
        await failed_set(one, known=False)
        assert one.core.recovery.waiting == 0
        assert await one.core.settle()
        assert await two.get() is None


async def test_rule_16_one_item_per_key_and_the_newest_wins() -> None:
    async with processes(2) as (one, two):
        await failed_set(one)
        one.l2.shared.down = True
        await one.put("newest")
        one.l2.shared.down = False
        assert one.core.recovery.waiting == 1
        assert await one.core.settle()
        assert await two.get() == "newest"


@pytest.mark.parametrize("then", ["set", "delete", "invalidate", "expire"])
async def test_rule_16_what_is_no_longer_true_is_not_replayed(then: str) -> None:
    async with processes(2) as (one, two):
        await failed_set(one)
        if then == "set":
            await one.put("newest")
        elif then == "delete":
            await one.core.remove([KEY])
        elif then == "invalidate":
            await one.core.invalidate(ALL)
        else:
            await one.clock.advance(101.0)
        assert await one.core.settle()
        assert await two.get() == ("newest" if then == "set" else None)
        assert one.core.recovery.recovered == 0
        assert one.core.recovery.waiting == 0


async def test_rule_16_replays_only_after_the_channel_is_back() -> None:
    async with processes(2) as (one, two):
        await one.get()
        loses_news(one, deaf=True)
        await failed_set(one, known=False)
        assert one.core.generations.deaf
        assert not await one.core.settle()
        assert await two.get() is None
        assert one.core.recovery.waiting == 1
        loses_news(one)
        assert await one.core.settle()
        assert await two.get() == "new"


async def test_rule_16_what_was_stamped_in_the_dark_is_not_replayed() -> None:
    async with processes(2) as (one, two):
        await one.get()
        loses_news(one, deaf=True)
        one.l2.shared.down = True
        assert await one.core.put({KEY: "dark"}, THROUGH, tags=("never seen",))
        assert await one.get() == "dark"
        assert one.core.recovery.waiting == 0
        one.l2.shared.down = False
        loses_news(one)
        assert await one.core.settle()
        assert await two.get() is None


@pytest.mark.parametrize("policy", [CONTENT, Policy(ttl=100.0, immutable=True)])
async def test_rule_16_content_is_replayed_unguarded_and_never_masked(policy: Policy) -> None:
    async with processes(2) as (one, two):
        await one.core.generations.take(ALL)
        one.l2.shared.down = True
        loaded = await one.core.get_or_load(KEY, policy, Origin("v").open(), tags=ALL)
        assert loaded.value == "v"
        assert await one.put("w", OTHER, Policy(ttl=100.0, immutable=True))
        assert one.core.recovery.waiting == 2
        one.l2.shared.down = False
        assert not one.core.generations.owed_keys
        assert await one.core.settle()
        assert (await two.get(policy=policy), await two.get(OTHER, policy)) == ("v", "w")


async def test_rule_16_a_set_during_a_replay_wins() -> None:
    async with processes(2) as (one, two):
        await failed_set(one)
        gate = Gate(one)
        settling = asyncio.ensure_future(one.core.settle())
        await gate.reached.wait()
        gate.opened.set()
        put = asyncio.ensure_future(one.put("newest"))
        await asyncio.gather(settling, put)
        assert await one.core.settle()
        assert await one.get() == "newest"
        assert await two.get() == "newest"


async def test_rule_16_l2_down_again_keeps_what_is_left() -> None:
    async with processes(2) as (one, two):
        await failed_set(one)
        one.l2.shared.down = True
        assert not await one.core.settle()
        assert one.core.recovery.waiting == 1
        assert one.observer.of(TierFailed)
        one.l2.shared.down = False
        assert await one.core.settle()
        assert await two.get() == "new"


async def test_many_sets_with_l2_down_for_a_minute_stay_within_bounds() -> None:
    """F26: the queue is full, L2 is down; nothing is dropped in silence."""
    async with processes(2, Limits(entries=50, bytes=100_000)) as (one, two):
        keys = [f"{KEY}-{number}" for number in range(90)]
        await one.core.get_many(keys, BACK)
        await one.core.generations.take(ALL)
        one.l2.shared.down = True
        for second in range(60):
            for key in keys:
                assert await one.put(second, key, BACK)
            await one.clock.advance(1.0)
        back, recovery = one.core.write_back, one.core.recovery
        assert len(back.queue) <= 50
        assert back.queue.bytes <= 100_000
        assert len(back.queue) + recovery.waiting == len(keys)
        assert back.overflowed > 0
        one.l2.shared.down = False
        await one.core.flush()
        assert await one.core.settle()
        found = await two.core.get_many(keys, BACK)
        assert {answer.value for answer in found.values()} == {59}
        assert len(found) == len(keys)
