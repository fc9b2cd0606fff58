"""The rules of the core, each with its race."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable

import msgspec
import pytest
from tests.races.core_kit import ALL, KEY, PLAIN, Origin, Process, processes

from querycache.cache.policy import Policy
from querycache.errors import (
    LoadTimeoutError,
    ReentrantLoadError,
    TierError,
    UnsupportedValueError,
)
from querycache.events import ChannelLost, LoadFailed, Missed, NotStored, TierFailed, Unreadable
from querycache.ports.codec import Shape
from querycache.ports.tiers import Changes

pytestmark = pytest.mark.asyncio

SWR = Policy(ttl=100.0, fresh=10.0)


def ask(
    process: Process,
    origin: Callable[[], object],
    policy: Policy = PLAIN,
    tags: tuple[str, ...] = ALL,
) -> asyncio.Task[object]:
    async def run() -> object:
        answer = await process.core.get_or_load(KEY, policy, origin, tags=tags)  # pyright: ignore[reportArgumentType]
        return answer.value

    return asyncio.ensure_future(run())


async def test_a_value_is_found_in_l1_then_by_another_process_in_l2() -> None:
    async with processes(2) as (one, two):
        assert await one.put("v")
        here = await one.core.get(KEY, PLAIN)
        there = await two.core.get(KEY, PLAIN)
        again = await two.core.get(KEY, PLAIN)
        assert (here.tier, there.tier, again.tier) == ("l1", "l2", "l1")
        assert here.value == there.value == again.value == "v"


async def test_a_cached_none_is_a_hit() -> None:
    async with processes(2) as (one, two):
        await one.put(None)
        answer = await two.core.get(KEY, PLAIN)
        assert answer.found
        assert answer.value is None
        origin = Origin().open()
        assert await ask(two, origin) is None
        assert origin.calls == 0


async def test_a_mutable_value_belongs_to_each_reader() -> None:
    async with processes(2) as (one, two):
        given = {"list": [1, 2]}
        await one.put(given)
        given["list"].append(3)
        for process in (one, one, two, two):
            value = await process.get()
            assert value == {"list": [1, 2]}
            assert isinstance(value, dict)
            value["list"].append(9)  # pyright: ignore[reportUnknownMemberType]


async def test_rule_1_a_failed_l2_is_not_told_and_its_old_value_is_masked() -> None:
    async with processes(2) as (one, two):
        await one.put("old")
        assert await two.get() == "old"
        one.l2.shared.down = True
        await one.put("new")
        assert await one.get() == "new"
        assert len(one.l2.shared.log) == 1  # the first write alone was told
        one.l2.shared.down = False
        one.core.l1.clear()
        assert await one.get() is None  # what L2 still holds is old
        assert await one.core.generations.settle()
        assert await two.get() is None
        await one.put("newest")
        assert await two.get() == "newest"


async def test_rule_3_an_invalidation_during_a_load_leaves_nothing_behind() -> None:
    for other in (0, 1):  # in this process, in another
        async with processes(2) as both:
            origin = Origin("before")
            waiting = ask(both[0], origin)
            await origin.started.wait()
            await both[other].core.invalidate(ALL)
            origin.open()
            assert await waiting == "before"  # it began before the invalidation
            assert not (await both[0].core.get(KEY, PLAIN)).found
            assert not (await both[1].core.get(KEY, PLAIN)).found


async def test_rule_3_a_delete_during_a_load_leaves_nothing_behind() -> None:
    for other in (0, 1):
        async with processes(2) as both:
            origin = Origin("before")
            waiting = ask(both[0], origin)
            await origin.started.wait()
            await both[other].core.remove([KEY])
            origin.open()
            await waiting
            assert not (await both[0].core.get(KEY, PLAIN)).found
            assert not (await both[1].core.get(KEY, PLAIN)).found


async def test_rule_3_holds_without_a_shared_tier() -> None:
    alone = Policy(ttl=100.0, l2=False)
    async with processes(1) as (one,):
        for cut in (lambda: one.core.remove([KEY]), lambda: one.core.invalidate(ALL)):
            origin = Origin("before")
            waiting = ask(one, origin, alone)
            await origin.started.wait()
            await cut()
            origin.open()
            await waiting
            assert not (await one.core.get(KEY, alone)).found


async def test_rule_3_a_set_during_a_load_wins() -> None:
    async with processes(2) as (one, two):
        origin = Origin("loaded")
        waiting = ask(one, origin)
        await origin.started.wait()
        await two.put("set")
        origin.open()
        await waiting
        assert await one.get() == "set"
        assert await two.get() == "set"


async def test_a_back_fill_under_way_does_not_bring_back_what_was_removed() -> None:
    async with processes(2) as (one, two):
        await two.put("old")
        gate, reached = asyncio.Event(), asyncio.Event()
        read = one.l2.read

        async def slow(keys: list[str], *, fenced: bool) -> object:
            found = await read(keys, fenced=fenced)
            reached.set()
            await gate.wait()
            return found

        one.l2.read = slow  # pyright: ignore[reportAttributeAccessIssue]
        reading = asyncio.ensure_future(one.get())
        await reached.wait()
        one.l2.read = read
        await two.core.remove([KEY])
        await one.get()  # drains the news while the back-fill is under way
        gate.set()
        assert await reading == "old"  # it began before
        assert await one.get() is None


async def test_rule_4_the_flight_of_an_invalidated_tag_is_left() -> None:
    async with processes(2) as (one, two):
        tags = (*ALL, "t")
        first, second = Origin("old"), Origin("new").open()
        waiting = ask(one, first, tags=tags)
        await first.started.wait()
        await two.core.invalidate(["t"])
        assert await ask(one, second, tags=tags) == "new"
        first.open()
        assert await waiting == "old"
        assert await one.get() in ("new", None)
        assert await two.get() == "new"


async def test_rule_5_a_thousand_misses_are_one_load() -> None:
    async with processes(1) as (one,):
        origin = Origin()
        waiting = [ask(one, origin) for _ in range(1000)]
        await origin.started.wait()
        await one.clock.settle()
        origin.open()
        assert set(await asyncio.gather(*waiting)) == {"loaded"}
        assert origin.calls == 1


async def test_rule_5_one_callers_cancellation_reaches_nobody_else() -> None:
    async with processes(1) as (one,):
        origin = Origin()
        leader = ask(one, origin)
        await origin.started.wait()
        followers = [ask(one, origin) for _ in range(20)]
        await one.clock.settle()
        leader.cancel()
        followers[0].cancel()
        await one.clock.settle()
        origin.open()
        assert await asyncio.gather(*followers[1:]) == ["loaded"] * 19
        assert leader.cancelled()
        assert followers[0].cancelled()
        assert origin.calls == 1


async def test_rule_5_the_load_stops_when_the_last_caller_has_left() -> None:
    async with processes(1) as (one,):
        origin = Origin()
        callers = [ask(one, origin), ask(one, origin)]
        await origin.started.wait()
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        await one.clock.settle()
        assert len(one.core.flights) == 0
        assert not (await one.core.get(KEY, PLAIN)).found


async def test_rule_5_an_error_goes_to_those_who_wait_and_is_not_kept() -> None:
    async with processes(1) as (one,):
        origin = Origin()
        origin.error = OSError("origin is down")
        waiting = [ask(one, origin) for _ in range(3)]
        await origin.started.wait()
        await one.clock.settle()
        origin.open()
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(outcome, OSError)
        assert origin.calls == 1
        assert len(one.observer.of(LoadFailed)) == 1
        origin.error = None
        assert await ask(one, origin) == "loaded"


async def test_rule_5_a_load_that_was_cancelled_from_within_is_taken_over_once() -> None:
    async with processes(1) as (one,):
        calls: list[int] = []
        gate = asyncio.Event()

        async def load() -> object:
            calls.append(1)
            await gate.wait()
            if len(calls) == 1:
                raise asyncio.CancelledError
            return "taken over"

        waiting = [ask(one, load) for _ in range(5)]
        await one.clock.settle()
        gate.set()
        assert await asyncio.gather(*waiting) == ["taken over"] * 5
        assert len(calls) == 2


async def test_rule_5_a_reentrant_load_raises_at_once() -> None:
    async with processes(1) as (one,):

        async def inner() -> object:
            return await one.core.get_or_load(KEY, PLAIN, inner, tags=ALL)

        with pytest.raises(ReentrantLoadError):
            await one.core.get_or_load(KEY, PLAIN, inner, tags=ALL)


async def test_rule_5_two_loads_that_wait_for_each_other_raise() -> None:
    async with processes(1) as (one,):
        other = KEY + "2"
        ready = asyncio.Barrier(2)

        def loader(wanted: str) -> Callable[[], object]:
            async def load() -> object:
                await ready.wait()
                return await one.core.get_or_load(wanted, PLAIN, Origin().open(), tags=ALL)

            return load

        results = await asyncio.gather(
            one.core.get_or_load(KEY, PLAIN, loader(other), tags=ALL),  # pyright: ignore[reportArgumentType]
            one.core.get_or_load(other, PLAIN, loader(KEY), tags=ALL),  # pyright: ignore[reportArgumentType]
            return_exceptions=True,
        )
        assert any(isinstance(result, ReentrantLoadError) for result in results)


async def test_rule_5_the_leaders_context_does_not_leak() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")
    async with processes(1) as (one,):

        async def load() -> object:
            return variable.get()

        variable.set("leader")
        assert (await one.core.get_or_load(KEY, PLAIN, load, tags=ALL)).value == "nobody"


async def test_rule_6_one_load_for_all_processes() -> None:
    leased = Policy(ttl=100.0, lease=2.0)
    async with processes(4) as all_:
        origin = Origin()
        waiting = [ask(process, origin, leased) for process in all_ for _ in range(5)]
        await origin.started.wait()
        await all_[0].clock.advance(5.0)  # longer than the lease: the heartbeat renews it
        origin.open()
        await all_[0].clock.advance(1.0)
        assert set(await asyncio.gather(*waiting)) == {"loaded"}
        assert origin.calls == 1


async def test_rule_6_a_dead_holders_lease_runs_out() -> None:
    leased = Policy(ttl=100.0, lease=2.0)
    async with processes(2) as (one, two):
        assert await one.l2.lease(KEY, 2.0)  # its holder died here
        origin = Origin().open()
        waiting = ask(two, origin, leased)
        await two.clock.advance(1.5)
        assert not waiting.done()
        await two.clock.advance(1.0)
        assert await waiting == "loaded"


async def test_rule_6_a_slow_l2_is_not_asked_for_a_lease() -> None:
    leased = Policy(ttl=100.0, lease=2.0)
    async with processes(1) as (one,):
        assert await one.l2.lease(KEY, 2.0)  # somebody holds it
        read = one.l2.read

        async def slow(keys: list[str], *, fenced: bool) -> object:
            one.clock.now += 0.2
            return await read(keys, fenced=fenced)

        one.l2.read = slow  # pyright: ignore[reportAttributeAccessIssue]
        assert await ask(one, Origin().open(), leased) == "loaded"


async def test_rule_6_correctness_does_not_depend_on_the_lease() -> None:
    leased = Policy(ttl=100.0, lease=2.0)
    async with processes(1) as (one,):
        one.l2.shared.down = True
        assert await ask(one, Origin().open(), leased) == "loaded"


async def test_rule_7_a_lost_channel_clears_l1() -> None:
    async with processes(2) as (one, two):
        await one.put("v")
        assert await two.get() == "v"
        drain = two.l2.backplane.drain
        two.l2.backplane.drain = lambda: msgspec.structs.replace(drain(), lost=True)
        one.l2.shared.tell(one.l2.source, "key", "another")
        assert (await two.core.get(KEY, PLAIN)).tier == "l2"
        assert two.observer.of(ChannelLost)


async def test_rule_7_while_the_channel_is_down_l1_is_bypassed() -> None:
    async with processes(2) as (one, two):
        await one.put("v")
        assert await two.get() == "v"
        drain = two.l2.backplane.drain
        two.l2.backplane.drain = lambda: Changes(seen=-1, bypass=True)
        one.l2.shared.tell(one.l2.source, "key", "another")
        for _ in range(3):
            assert (await two.core.get(KEY, PLAIN)).tier == "l2"
        two.l2.backplane.drain = drain
        assert (await two.core.get(KEY, PLAIN)).tier == "l1"


async def test_rule_8_an_overwrite_elsewhere_reaches_l1_and_our_own_does_not_drop_it() -> None:
    async with processes(2) as (one, two):
        await one.put("a")
        assert (await one.core.get(KEY, PLAIN)).tier == "l1"
        assert await two.get() == "a"
        await two.put("b")
        assert await one.get() == "b"


async def test_overlapping_writers_of_one_key_leave_l1_to_l2() -> None:
    async with processes(1) as (one,):
        results = await asyncio.gather(*(one.put(n) for n in range(5)))
        assert all(results)
        assert await one.get() == 4


async def test_rule_9_l1_takes_the_remaining_life() -> None:
    async with processes(2) as (one, two):
        await one.put("v")
        await one.clock.advance(90.0)
        assert await two.get() == "v"
        await one.clock.advance(9.9)
        assert await two.get() == "v"  # a read restarts nothing
        await one.clock.advance(0.2)
        assert await two.get() is None
        assert await one.get() is None


async def test_rule_10_stale_is_served_and_refreshed_behind() -> None:
    async with processes(2) as both:
        one = both[0]
        await one.core.get_or_load(KEY, SWR, Origin("v1").open(), tags=ALL)
        await one.clock.advance(11.0)
        origin = Origin("v2")
        for process in both:  # one holds it in L1, the other finds it in L2
            answer = await process.core.get_or_load(KEY, SWR, origin, tags=ALL)
            assert (answer.value, answer.stale) == ("v1", True)
        await origin.started.wait()
        origin.open()
        await one.clock.settle()
        for process in both:
            answer = await process.core.get_or_load(KEY, SWR, origin, tags=ALL)
            assert (answer.value, answer.stale) == ("v2", False)


async def test_rule_10_a_failed_refresh_is_throttled_and_stale_goes_on() -> None:
    async with processes(1) as (one,):
        await one.core.get_or_load(KEY, SWR, Origin("v1").open(), tags=ALL)
        await one.clock.advance(11.0)
        origin = Origin().open()
        origin.error = OSError("origin is down")
        for _ in range(5):
            assert await ask(one, origin, SWR) == "v1"
            await one.clock.settle()
        assert origin.calls == 1
        await one.clock.advance(31.0)
        assert await ask(one, origin, SWR) == "v1"
        await one.clock.settle()
        assert origin.calls == 2
        await one.clock.advance(60.0)
        with pytest.raises(OSError, match="origin is down"):  # past its usable life
            await ask(one, origin, SWR)


async def test_rule_10_a_refused_permission_is_never_masked() -> None:
    async with processes(2) as (one, two):
        await one.core.get_or_load(KEY, SWR, Origin("v1").open(), tags=ALL)
        await one.clock.advance(11.0)
        origin = Origin().open()
        origin.error = PermissionError("no more")
        await ask(one, origin, SWR)
        await one.clock.settle()
        for process in (one, two):
            with pytest.raises(PermissionError):
                await ask(process, origin, SWR)


async def test_rule_11_early_refresh_happens_before_the_end_and_never_twice_at_once() -> None:
    early = Policy(ttl=100.0, beta=1.0)
    async with processes(1) as (one,):

        async def slow() -> object:
            await one.clock.sleep(5.0)
            return "v1"

        first = ask(one, slow, early)
        await one.clock.advance(5.0)
        assert await first == "v1"
        origin = Origin("v2")
        refreshed_at = None
        for second in range(95):
            await one.clock.advance(1.0)
            await one.core.get_or_load(KEY, early, origin, tags=ALL)
            if origin.calls:
                refreshed_at = second
                break
        assert refreshed_at is not None
        await one.core.get_or_load(KEY, early, origin, tags=ALL)
        await one.clock.settle()
        assert origin.calls == 1
        origin.open()
        await one.clock.settle()
        assert await one.get(policy=early) == "v2"


async def test_rule_12_jitter_only_shortens_and_is_the_same_everywhere() -> None:
    jittered = Policy(ttl=100.0, jitter=0.5)
    async with processes(2) as (one, two):
        ends: set[float] = set()
        for n in range(30):
            key = f"{KEY}{n}"
            await one.put("v", key, jittered)
            await two.get(key, jittered)
            here, there = one.core.l1.entries[key], two.core.l1.entries[key]
            assert here.expires == pytest.approx(there.expires)
            assert 50.0 <= here.expires - one.clock.now <= 100.0
            ends.add(here.expires)
        assert len(ends) > 20


async def test_rule_13_a_soft_timeout_serves_stale_and_the_load_finishes_behind() -> None:
    soft = Policy(ttl=100.0, fresh=10.0, soft_timeout=0.5)
    async with processes(1) as (one,):
        await one.core.get_or_load(KEY, soft, Origin("v1").open(), tags=ALL)
        await one.clock.advance(11.0)
        origin = Origin("v2")
        waiting = ask(one, origin, soft)
        await origin.started.wait()
        assert not waiting.done()
        await one.clock.advance(0.6)
        assert await waiting == "v1"
        origin.open()
        await one.clock.settle()
        assert await one.get(policy=soft) == "v2"


async def test_rule_13_a_quick_load_within_the_soft_timeout_is_served() -> None:
    soft = Policy(ttl=100.0, fresh=10.0, soft_timeout=0.5)
    async with processes(1) as (one,):
        await one.core.get_or_load(KEY, soft, Origin("v1").open(), tags=ALL)
        await one.clock.advance(11.0)
        assert await ask(one, Origin("v2").open(), soft) == "v2"


async def test_rule_13_a_hard_timeout_raises_and_the_load_finishes_behind() -> None:
    hard = Policy(ttl=100.0, hard_timeout=2.0)
    async with processes(1) as (one,):
        origin = Origin()
        waiting = ask(one, origin, hard)
        await origin.started.wait()
        await one.clock.advance(2.1)
        with pytest.raises(LoadTimeoutError):
            await waiting
        origin.open()
        await one.clock.settle()
        assert await one.get(policy=hard) == "loaded"


async def test_rule_14_a_tag_cuts_what_depends_on_it_and_nothing_else() -> None:
    async with processes(2) as (one, two):
        for n in range(20):
            tags = (*ALL, "even" if n % 2 == 0 else "odd")
            await one.core.put({f"{KEY}{n}": n}, PLAIN, tags=tags)
            await two.get(f"{KEY}{n}")
        rows = len(one.l2.shared.log)
        await two.core.invalidate(["even"])
        assert len(one.l2.shared.log) == rows + 1  # one number, however many entries
        for process in (one, two):
            found = [n for n in range(20) if await process.get(f"{KEY}{n}") is not None]
            assert found == list(range(1, 20, 2))


async def test_rule_14_a_counter_that_was_lost_invalidates() -> None:
    async with processes(2) as (one, two):
        await one.put("v")

        async def strange(_: list[str]) -> object:
            return {}

        two.l2.stamps = strange  # pyright: ignore[reportAttributeAccessIssue]
        assert not (await two.core.get(KEY, PLAIN)).found


async def test_rule_18_a_value_too_big_is_told_and_its_old_one_is_gone() -> None:
    small = Policy(ttl=100.0, shape=Shape(max_bytes=1000))
    async with processes(2) as (one, two):
        await one.put("fits", policy=small)
        assert not await one.put("x" * 2000, policy=small)
        assert one.observer.of(NotStored)
        assert await one.get(policy=small) is None
        assert await two.get(policy=small) is None


async def test_an_unsupported_value_is_served_but_not_kept() -> None:
    async with processes(1) as (one,):
        thing = object()
        assert await ask(one, Origin(thing).open()) is thing
        assert not (await one.core.get(KEY, PLAIN)).found
        with pytest.raises(UnsupportedValueError):
            await one.put(thing)


async def test_a_broken_l2_is_a_reported_miss() -> None:
    async with processes(1) as (one,):
        await one.put("v", "codebase_rag:other:_:warm")
        one.l2.shared.down = True
        assert await one.get("codebase_rag:other:_:warm") == "v"
        assert await ask(one, Origin().open()) == "loaded"
        assert await one.get() == "loaded"  # L1 goes on
        assert one.observer.of(TierFailed)
        reasons = {event.reason for event in one.observer.of(Missed) if isinstance(event, Missed)}
        assert reasons == {"l2_down"}


async def test_an_entry_that_does_not_open_is_a_reported_miss() -> None:
    async with processes(2) as (one, two):
        await one.put("v")
        data, end = one.l2.shared.entries[KEY]
        one.l2.shared.entries[KEY] = (data[:-1] + bytes([data[-1] ^ 1]), end)
        answer = await two.core.get(KEY, PLAIN)
        assert (answer.found, answer.reason) == (False, "unreadable")
        assert two.observer.of(Unreadable)
        assert await ask(two, Origin("again").open()) == "again"
        assert await one.get() == "again"


async def test_an_invalidation_with_l2_down_holds_here_and_is_owed() -> None:
    async with processes(2) as (one, two):
        await one.put("v")
        assert await two.get() == "v"
        one.l2.shared.down = True
        assert not await one.core.invalidate(ALL)
        assert await one.get() is None
        one.l2.shared.down = False
        assert await one.get() is None
        assert await one.core.generations.settle()
        assert await two.get() is None


async def test_many_keys_are_one_look_and_one_load() -> None:
    async with processes(2) as (one, two):
        keys = [f"{KEY}{n}" for n in range(10)]
        await one.core.put({key: key for key in keys[:5]}, PLAIN, tags=ALL)
        asked: list[list[str]] = []

        async def load(missing: list[str]) -> dict[str, object]:
            asked.append(missing)
            return {key: f"loaded {key}" for key in missing[:-1]}

        answers = await two.core.get_or_load_many(keys, PLAIN, load, tags=ALL, to_l1=False)
        assert asked == [keys[5:]]
        assert set(answers) == set(keys[:-1])
        assert {answers[key].tier for key in keys[:5]} == {"l2"}
        assert len(two.core.l1.entries) == 0  # a scan displaces nothing
        again = await one.core.get_many(keys, PLAIN)
        assert set(again) == set(keys[:-1])


async def test_a_failed_batch_raises_its_error_and_leaves_nothing() -> None:
    async with processes(1) as (one,):

        async def load(missing: list[str]) -> dict[str, object]:
            raise OSError(f"{len(missing)} failed")

        with pytest.raises(OSError, match="2 failed"):
            await one.core.get_or_load_many([KEY, KEY + "2"], PLAIN, load, tags=ALL)


async def test_a_wall_clock_that_jumps_neither_expires_nor_prolongs() -> None:
    async with processes(2) as (one, two):
        await one.put("v")
        one.clock.wall_now -= 3600.0
        assert await two.get() == "v"
        assert two.core.l1.entries[KEY].expires - two.clock.now <= 100.0
        assert await one.get() == "v"


async def test_a_tier_error_is_all_that_l2_may_raise() -> None:
    async with processes(1) as (one,):
        one.l2.shared.down = True
        with pytest.raises(TierError):
            await one.l2.read([KEY])
        assert await one.core.remove([KEY]) == 0
        one.l2.shared.down = False
        await one.core.generations.settle()
