"""One line for each thing that went wrong, which no field can break."""

from __future__ import annotations

import logging

import pytest

from querycache.events import Healed, Hit, NotStored, Stored, TierFailed, Unreadable
from querycache.keys import Namer
from querycache.observe.event_log import Both, EventLog
from querycache.testing import FakeClock, RecordingObserver

KEY = "codebase_rag:search:p:k"


@pytest.fixture(autouse=True)
def all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "querycache")


def log(clock: FakeClock | None = None, *, operations: bool = False) -> EventLog:
    return EventLog(clock or FakeClock(), Namer(), operations=operations)


def test_failures_are_told_and_hits_are_not(caplog: pytest.LogCaptureFixture) -> None:
    told = log()
    told.emit(Hit(KEY, 1.0, stale=False))
    told.emit(TierFailed(KEY, "sqlite", "read", "disk I/O error"))
    told.emit(Unreadable(KEY, "bad_checksum"))
    told.emit(Healed(KEY, "newer"))
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    assert "disk I/O error" in caplog.text
    assert "bad_checksum" in caplog.text


async def repeat(told: EventLog, clock: FakeClock) -> None:
    for _ in range(5):
        told.emit(TierFailed(KEY, "sqlite", "read", "gone"))
    told.emit(TierFailed(KEY, "sqlite", "write", "gone"))
    await clock.advance(11.0)
    told.emit(TierFailed(KEY, "sqlite", "read", "gone"))


@pytest.mark.asyncio
async def test_what_repeats_is_told_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    await repeat(log(clock), clock)
    assert len(caplog.records) == 3
    assert "4 more like it" in caplog.text


def test_a_value_too_big_is_told_once_for_each_kind(caplog: pytest.LogCaptureFixture) -> None:
    told = log()
    for _ in range(3):
        told.emit(NotStored(KEY, "too_big"))
        told.emit(NotStored("codebase_rag:file:_:k", "too_big"))
        told.emit(NotStored(KEY, "invalidated_meanwhile"))
    assert len(caplog.records) == 2


def test_every_operation_where_asked(caplog: pytest.LogCaptureFixture) -> None:
    told = log(operations=True)
    told.emit(Hit(KEY, 1.0, stale=False))
    told.emit(Stored(KEY, 10, 60.0))
    assert [record.getMessage().split()[0] for record in caplog.records] == ["Hit", "Stored"]


@pytest.mark.parametrize("evil", ["a\nWARNING forged", "\x1b[31m", "\x00", "\u202e", "x" * 9_999])
def test_no_field_breaks_a_line(caplog: pytest.LogCaptureFixture, evil: str) -> None:
    log().emit(TierFailed(evil, "sqlite", "read", evil))
    (record,) = caplog.records
    message = record.getMessage()
    assert message.isprintable()
    assert message.isascii()
    assert len(message) < 1000


def test_both_are_told() -> None:
    one, two = RecordingObserver(), RecordingObserver()
    event = Unreadable(KEY, "truncated")
    Both(one, two).emit(event)
    assert one.events == two.events == [event]
