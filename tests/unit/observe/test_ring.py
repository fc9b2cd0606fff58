"""The ring of events."""

from __future__ import annotations

import msgspec
import pytest

from querycache import events as all_events
from querycache.events import (
    ChannelLost,
    Event,
    Evicted,
    FileChanged,
    Healed,
    Hit,
    Invalidated,
    Loaded,
    LoadFailed,
    Missed,
    NotStored,
    Pressure,
    Stored,
    TierFailed,
    Unreadable,
)
from querycache.observe.ring import EventRing, concerning, events_from
from querycache.testing import FakeClock

EXAMPLES: list[Event] = [
    Hit("k", age_s=1.5, stale=False),
    Missed("k", reason="absent"),
    Loaded("k", took_s=0.2),
    LoadFailed("k", error="boom", served_stale=True),
    Stored("k", weight=10, ttl_s=60.0),
    NotStored("k", reason="too_big"),
    Evicted("k", weight=3),
    Invalidated("", tag="t", source="me"),
    ChannelLost("", reason="gap"),
    TierFailed("k", tier="sqlite", operation="read", error="locked"),
    Unreadable("k", reason="bad_magic"),
    Healed("k", found="newer"),
    FileChanged("/src/a.py", lag_s=0.08, entries=2, project="shop"),
    Pressure("", level="warning", used=81, limit=100, shed=7),
]


def ring_of(events: list[Event], limit: int = 100) -> EventRing:
    ring = EventRing(limit, FakeClock())
    for event in events:
        ring.emit(event)
    return ring


def test_it_counts_all_and_keeps_the_last():
    ring = ring_of([Evicted(f"k{n}", weight=n) for n in range(10)], limit=3)
    assert ring.counts["Evicted"] == 10
    assert ring.counts["Hit"] == 0
    assert [event.key for _, event in ring.events()] == ["k7", "k8", "k9"]


def test_it_counts_by_reason_and_operation():
    ring = ring_of(
        [Missed("a", "absent"), Missed("b", "absent"), Missed("c", "expired"), *EXAMPLES]
    )
    assert ring.by_label(Missed) == {"absent": 3, "expired": 1}
    assert ring.by_label(TierFailed) == {"read": 1}
    assert ring.by_label(Hit) == {}


@pytest.mark.asyncio
async def test_events_carry_their_wall_time():
    clock = FakeClock(wall=5000.0)
    ring = EventRing(10, clock)
    ring.emit(Loaded("a", took_s=1))
    await clock.advance(2.5)
    ring.emit(Loaded("b", took_s=1))
    assert [at for at, _ in ring.events()] == [5000.0, 5002.5]


def test_what_concerns_an_entry():
    bumped, other = Invalidated("", tag="t", source="s"), Invalidated("", tag="u", source="s")
    ring = ring_of([Hit("a", age_s=1, stale=True), Evicted("b", weight=1), bumped, other])
    assert [event for _, event in ring.events_of("a", ["t"])] == [Hit("a", 1, stale=True), bumped]
    assert ring.events_of("a") == concerning(ring.events(), "a")
    assert not ring.events_of("c")


def test_a_changed_file_concerns_what_was_derived_from_it():
    changed = FileChanged("/src/a.py", lag_s=0.1, entries=1, project="")
    ring = ring_of([changed, FileChanged("/src/b.py", lag_s=0.1, entries=1, project="")])
    assert [event for _, event in ring.events_of("k", ["file:/src/a.py"])] == [changed]


def test_every_type_of_event_is_an_example():
    assert {type(event) for event in EXAMPLES} == set(all_events.Event.__subclasses__())


def test_rows_come_back_through_json():
    ring = ring_of(EXAMPLES)
    rows = msgspec.json.decode(msgspec.json.encode(ring.rows()))
    assert events_from(rows) == ring.events()


@pytest.mark.parametrize(
    "row",
    [
        None,
        [],
        [1.0],
        [1.0, "Nothing", "k"],
        [1.0, "Hit", "k"],
        ["x", "Loaded", "k", 1.0],
        [1.0, 2],
    ],
)
def test_rows_of_another_version_are_left_out(row: object):
    assert events_from([row, [1.0, "Loaded", "k", 0.5]]) == [(1.0, Loaded("k", took_s=0.5))]


def test_words_that_are_no_utf_8_can_be_told():
    ring = ring_of([LoadFailed("k", error="OSError: bad \udcff", served_stale=False)])
    ((_, event),) = events_from(msgspec.json.decode(msgspec.json.encode(ring.rows())))
    assert event == LoadFailed("k", error="OSError: bad \\udcff", served_stale=False)
