"""What the server tells reaches the core, once, and what it could not tell is never silence."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.behaviour.backplane_suite import BackplaneSuite, Process
from tests.behaviour.backplane_suite import Pair as Processes
from tests.redis_kit import redis_server, until
from tests.redis_tier_kit import CLOCK, PREFIX, UNTRACKED, entry, forbid_tracking, told, two_tiers

from querycache.ports.tiers import Changes
from querycache.testing import FakeClock
from querycache.tiers.redis import RedisTier
from querycache.tiers.redis.names import Names, slot_of
from querycache.tiers.redis.tracking import Ear, RedisBackplane

NAMES = Names(PREFIX)
STRANGER = b"0123456789ab"


class Channel(NamedTuple):
    """A connection, as far as an ear looks at it."""

    number: int = 1
    where: str = "a:1"
    hearing: str = "tracked"


ONE, TWO = Channel(1), Channel(2, "b:2")


class Heard:
    """A backplane with one ear."""

    def __init__(self, *, clustered: bool = False, limit: int = 1000) -> None:
        self.clock = FakeClock()
        self.backplane = RedisBackplane(NAMES, self.clock, limit=limit)
        self.ear = self.backplane.ear(clustered=clustered)

    def joined(self, channel: Channel = ONE) -> Heard:
        """With a connection, and drained."""
        self.ear.joined(channel)
        self.backplane.drain()
        return self

    def drain(self) -> Changes:
        changes = self.backplane.drain()
        assert changes.seen == self.backplane.epoch[0]
        return changes

    def invalidate(self, *names: bytes) -> None:
        self.ear.heard([b"invalidate", list(names)])

    def message(self, text: bytes) -> None:
        self.ear.heard([b"message", NAMES.channel, text])


def shadow(name: bytes, source: bytes = STRANGER) -> bytes:
    return NAMES.shadow(slot_of(name), source, name)


class _RedisSuite(BackplaneSuite):
    user = ""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncGenerator[Processes]:
        del folder
        async with redis_server() as server, two_tiers(server, self.user) as (ours, theirs):
            yield Process(ours, ours.backplane), Process(theirs, theirs.backplane)

    def wall(self) -> float:
        return CLOCK.wall()

    async def hears(self, listener: Process) -> Changes:
        assert isinstance(listener.tier, RedisTier)
        return await told(listener.tier)


@pytest.mark.live
class TestTracked(_RedisSuite):
    """The server tells by itself."""


@pytest.mark.live
class TestSubscribed(_RedisSuite):
    """The server lets nobody track, so the scripts tell."""

    user = UNTRACKED


def test_a_process_starts_deaf_and_hears_once_it_has_joined() -> None:
    heard = Heard()
    assert heard.drain() == Changes(seen=0, deaf=True)
    heard.ear.joined(ONE)
    assert heard.drain() == Changes(seen=1)


def test_what_was_kept_before_the_first_connection_is_in_doubt() -> None:
    heard = Heard()
    heard.backplane.failed()
    heard.ear.joined(ONE)
    assert heard.drain().lost
    heard.ear.joined(TWO)
    assert not heard.drain().lost


def test_a_push_names_what_others_changed() -> None:
    heard = Heard().joined()
    heard.invalidate(shadow(b"k:1"), shadow("ä{x}".encode()))
    heard.invalidate(NAMES.counter("t/u"), shadow(b"k:1"))
    assert heard.drain() == Changes(("k:1", "ä{x}"), {"t/u": None}, heard.backplane.epoch[0])
    assert heard.drain().keys == ()


def test_our_own_changes_are_left_out_and_our_own_bumps_are_not() -> None:
    heard = Heard().joined()
    before = heard.backplane.epoch[0]
    heard.invalidate(shadow(b"k:1", heard.backplane.source))
    assert heard.backplane.epoch[0] == before
    heard.invalidate(shadow(b"k:1", heard.backplane.source), shadow(b"k:2"))
    assert heard.drain().keys == ("k:2",)
    heard.invalidate(NAMES.counter("t"))
    assert heard.drain().tags == {"t": None}


def test_what_is_none_of_ours_changes_nothing() -> None:
    heard = Heard().joined()
    before = heard.backplane.epoch[0]
    heard.invalidate(b"a strangers", NAMES.sequence, NAMES.probe(STRANGER))
    heard.ear.heard([b"server-cpu-usage", 1])
    assert heard.backplane.epoch[0] == before


def test_a_flush_is_a_loss() -> None:
    heard = Heard().joined()
    heard.ear.heard([b"invalidate", None])
    changes = heard.drain()
    assert (changes.lost, changes.deaf) == (True, False)
    assert not heard.drain().lost


def test_a_connection_that_drops_is_a_loss_until_and_when_it_is_back() -> None:
    heard = Heard().joined()
    heard.ear.left(ONE, gone=False)
    changes = heard.drain()
    assert (changes.lost, changes.deaf) == (True, True)
    assert heard.drain() == Changes(seen=changes.seen, deaf=True)
    heard.ear.joined(TWO)
    changes = heard.drain()
    assert (changes.lost, changes.deaf) == (True, False)


def test_what_came_before_a_drop_is_not_forgotten() -> None:
    heard = Heard().joined()
    heard.invalidate(shadow(b"k"), NAMES.counter("t"))
    heard.ear.left(ONE, gone=False)
    changes = heard.drain()
    assert (changes.lost, changes.keys, changes.tags) == (True, ("k",), {"t": None})


def test_a_connection_that_is_gone_for_good_is_no_loss_while_another_hears() -> None:
    heard = Heard().joined()
    other = heard.backplane.ear(clustered=False)
    other.joined(TWO)
    assert not heard.drain().lost
    heard.ear.left(ONE, gone=True)
    assert heard.drain() == Changes(seen=heard.backplane.epoch[0])
    other.left(TWO, gone=True)
    changes = heard.drain()
    assert (changes.lost, changes.deaf) == (True, True)


def test_a_loop_that_ends_takes_its_drops_along() -> None:
    heard = Heard().joined()
    other = heard.backplane.ear(clustered=False)
    other.joined(TWO)
    other.left(TWO, gone=False)
    assert heard.drain().deaf
    other.end()
    changes = heard.drain()
    assert not changes.deaf
    heard.ear.end()
    assert heard.drain().deaf


def test_in_a_cluster_each_node_is_missed_by_itself() -> None:
    heard = Heard(clustered=True).joined(ONE).joined(TWO)
    heard.ear.left(ONE, gone=False)
    assert heard.drain().deaf
    heard.ear.joined(Channel(3, "c:3"))
    assert heard.drain().deaf
    heard.ear.joined(Channel(4, ONE.where))
    changes = heard.drain()
    assert (changes.lost, changes.deaf) == (True, False)
    heard.ear.left(TWO, gone=False)
    heard.ear.retain({"a:1", "b:2", "c:3"})
    assert heard.drain().deaf
    heard.ear.retain({"a:1", "c:3"})  # it is no primary any more
    assert not heard.drain().deaf


def test_what_a_node_changed_before_it_was_heard_is_missed() -> None:
    heard = Heard(clustered=True).joined(ONE)
    heard.ear.joined(TWO)
    assert not heard.drain().lost
    heard.ear.joined(Channel(3, "c:3"), late=True)
    changes = heard.drain()
    assert (changes.lost, changes.deaf) == (True, False)


def test_who_never_joined_can_not_leave() -> None:
    heard = Heard().joined()
    heard.ear.left(TWO, gone=False)
    assert heard.drain() == Changes(seen=heard.backplane.epoch[0])


def test_what_is_pending_is_bounded() -> None:
    heard = Heard(limit=100).joined()
    for number in range(100):
        heard.invalidate(shadow(b"k:%d" % number), shadow(b"k:0"))
    assert not heard.drain().lost
    for number in range(101):
        heard.invalidate(shadow(b"k:%d" % number))
    changes = heard.drain()
    assert changes.lost
    assert len(changes.keys) <= 100


def test_after_a_fork_it_is_another_process() -> None:
    heard = Heard().joined()
    heard.invalidate(shadow(b"k"))
    source, epoch = heard.backplane.source, heard.backplane.epoch[0]
    heard.backplane.after_fork()
    assert heard.backplane.source != source
    assert heard.backplane.epoch[0] != epoch
    assert heard.drain() == Changes(seen=heard.backplane.epoch[0], lost=True, deaf=True)
    heard.backplane.ear(clustered=False).joined(TWO)
    assert not heard.drain().deaf


# --- messages ----------------------------------------------------------------------------------


def subscribed() -> Heard:
    return Heard().joined(Channel(hearing="subscribed"))


def test_messages_say_what_pushes_say() -> None:
    heard = subscribed()
    counter = NAMES.counter("t")
    heard.message(b"41 %b k a name" % STRANGER)
    heard.message(b"42 %b k ours" % heard.backplane.source)
    heard.message(b"43 %b t %b" % (heard.backplane.source, counter))
    changes = heard.drain()
    assert (changes.keys, changes.tags, changes.lost) == (("a name",), {"t": None}, False)


@pytest.mark.parametrize("number", [b"43", b"41", b"40", b"1"])
def test_a_number_that_does_not_follow_is_a_loss(number: bytes) -> None:
    heard = subscribed()
    heard.message(b"41 %b k a" % STRANGER)
    assert not heard.drain().lost
    heard.message(b"%b %b k b" % (number, heard.backplane.source))
    assert heard.drain().lost
    heard.message(b"%d %b k c" % (int(number) + 1, STRANGER))
    assert not heard.drain().lost


@pytest.mark.parametrize("text", [b"", b"hello", b"x y k z", b"1 2 3"])
def test_what_no_script_of_ours_says_is_a_loss(text: bytes) -> None:
    heard = subscribed()
    heard.message(text)
    assert heard.drain().lost


def counted(ear: Ear, number: int | None) -> None:
    ear.counted(number, ear.number)


def test_silence_is_told_from_quiet() -> None:
    heard = subscribed()
    counted(heard.ear, 41)  # what was before us
    heard.message(b"42 %b k a" % STRANGER)
    counted(heard.ear, 42)
    assert not heard.drain().lost
    counted(heard.ear, 43)
    assert heard.drain().lost
    counted(heard.ear, 43)
    assert not heard.drain().lost


def test_a_counter_that_began_anew_is_a_loss() -> None:
    for number in (None, 5):
        heard = subscribed()
        heard.message(b"41 %b k a" % STRANGER)
        counted(heard.ear, number)
        assert heard.drain().lost
    heard = subscribed()
    counted(heard.ear, None)  # there was none from the start
    heard.message(b"1 %b k a" % STRANGER)
    assert not heard.drain().lost


def test_a_message_that_overtakes_the_answer_is_no_loss() -> None:
    heard = subscribed()
    heard.message(b"41 %b k a" % STRANGER)
    before = heard.ear.number
    heard.message(b"42 %b k b" % STRANGER)
    heard.ear.counted(41, before)
    assert not heard.drain().lost


# --- lag ---------------------------------------------------------------------------------------


def probed(heard: Heard) -> bool:
    return heard.backplane.probe() is not None


def test_the_probe_is_touched_every_two_seconds_by_one_loop() -> None:
    heard = Heard()
    assert not probed(heard)  # nobody would hear it
    heard.joined()
    assert heard.backplane.probe() == NAMES.probe(heard.backplane.source)
    assert not probed(heard)
    heard.clock.now += 2.0
    assert probed(heard)
    assert not probed(subscribed())


def test_the_lag_is_what_the_last_touch_took() -> None:
    heard = Heard().joined()
    backplane = heard.backplane
    assert (backplane.lag_ms, backplane.worst_lag_ms) == (None, None)
    for took in (0.5, 0.001):
        heard.clock.now += 5.0
        assert probed(heard)
        heard.clock.now += took
        heard.invalidate(NAMES.probe(backplane.source))
    assert backplane.lag_ms == pytest.approx(1.0)
    assert backplane.worst_lag_ms == pytest.approx(500.0)
    heard.clock.now += 61.0
    assert backplane.worst_lag_ms == pytest.approx(1.0)


def test_a_touch_that_is_not_heard_counts_while_it_is_waited_for() -> None:
    heard = Heard().joined()
    assert probed(heard)
    heard.clock.now += 3.0
    assert heard.backplane.lag_ms is None
    assert probed(heard)
    heard.clock.now += 1.0
    assert heard.backplane.lag_ms == pytest.approx(3000.0)
    heard.clock.now += 4.0
    assert heard.backplane.lag_ms == pytest.approx(5000.0)
    heard.invalidate(NAMES.probe(heard.backplane.source))
    assert heard.backplane.lag_ms == pytest.approx(5000.0)


@pytest.mark.live
@pytest.mark.asyncio
async def test_the_lag_is_measured_and_no_other_process_hears_of_it() -> None:
    async with redis_server() as server, two_tiers(server) as (ours, theirs):
        seen = theirs.backplane.drain().seen

        async def measured() -> bool:
            return ours.backplane.lag_ms is not None and theirs.backplane.lag_ms is not None

        await until(measured, "both have measured")
        lag_ms = (await ours.info()).lag_ms
        assert lag_ms is not None
        assert 0.0 < lag_ms < 5000.0
        assert (await told(theirs)).seen == seen


# --- losses on a real server -------------------------------------------------------------------


@pytest.mark.live
@pytest.mark.asyncio
@pytest.mark.parametrize("user", ["", UNTRACKED])
@pytest.mark.parametrize("command", ["FLUSHALL", "FLUSHDB"])
async def test_a_flushed_server_is_noticed(user: str, command: str) -> None:
    async with redis_server() as server, two_tiers(server, user) as (ours, theirs):
        await ours.write([entry("k")])
        await told(theirs)
        await server.ask(command)

        async def noticed() -> bool:
            return (await told(theirs)).lost

        began = CLOCK.monotonic()
        await until(noticed, "the flush is noticed")
        assert CLOCK.monotonic() - began < 2.5 if user else True
        assert (await theirs.read(["k"]))[0].data is None


@pytest.mark.live
@pytest.mark.asyncio
@pytest.mark.parametrize("user", ["", UNTRACKED])
async def test_a_server_that_comes_back_empty_is_heard_again(user: str) -> None:
    async with redis_server() as server, two_tiers(server, user) as (ours, theirs):
        (read,) = await ours.read(["k"])
        stamps = await ours.stamps(["t"])
        await server.kill()

        async def deaf() -> bool:
            return theirs.backplane.drain().deaf and ours.backplane.drain().deaf

        await until(deaf, "both know that they hear nothing")
        await server.start()
        if user:
            await forbid_tracking(server)
        changes: list[Changes] = []

        async def back() -> bool:
            changes.append(theirs.backplane.drain())
            return not changes[-1].deaf and not ours.backplane.drain().deaf

        await until(back, "both hear again")
        assert any(one.lost for one in changes)
        assert await ours.write([entry("k", guard=read.guard)]) == [False]
        assert await ours.stamps(["t"]) != stamps
        await told(theirs)
        await ours.write([entry("k")])
        assert (await told(theirs)).keys == ("k",)


@pytest.mark.live
@pytest.mark.asyncio
async def test_silence_of_the_channel_is_noticed() -> None:
    async with redis_server() as server, two_tiers(server, UNTRACKED) as (ours, theirs):
        await ours.write([entry("k")])
        await told(theirs)
        await server.ask("INCR", NAMES.sequence)  # a message that nobody got
        began = CLOCK.monotonic()

        async def noticed() -> bool:
            return theirs.backplane.drain().lost

        await until(noticed, "the gap is noticed")
        assert CLOCK.monotonic() - began < 2.5
