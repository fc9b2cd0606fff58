from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from querycache.clock import SystemClock
from querycache.observe.audit import NoAudit
from querycache.testing import FakeClock
from querycache.usecases.hold_sessions import HoldSessions


@pytest.mark.asyncio
async def test_a_session_lives_as_long_as_it_is_used() -> None:
    clock = FakeClock(wall=1000.0)
    sessions = HoldSessions(clock, NoAudit(), timeout_s=60.0)
    name = sessions.create("ada", "shop")
    for _ in range(5):
        await clock.advance(50.0)
        used = sessions.use(name)
        assert used is not None
        assert (used.user_id, used.project_context, used.created_at) == ("ada", "shop", 1000.0)
        assert used.last_activity == clock.wall()
    await clock.advance(60.0)
    assert sessions.use(name) is None
    assert not sessions.active


def test_ids_are_random_and_hold_256_bits() -> None:
    sessions = HoldSessions(FakeClock(), NoAudit(), timeout_s=60.0)
    names = {sessions.create("ada", "shop") for _ in range(100)}
    assert len(names) == 100
    assert all(len(name) >= 43 for name in names)


def test_after_clearing_every_id_is_refused() -> None:
    sessions = HoldSessions(FakeClock(), NoAudit(), timeout_s=60.0)
    names = [sessions.create("ada", "shop") for _ in range(3)]
    sessions.active.clear()
    assert [sessions.use(name) for name in names] == [None] * 3
    assert not sessions.end(names[0])


def test_a_session_can_be_ended() -> None:
    sessions = HoldSessions(FakeClock(), NoAudit(), timeout_s=60.0)
    name = sessions.create("ada", "shop")
    assert sessions.end(name)
    assert sessions.use(name) is None


def test_threads_may_share_the_sessions() -> None:
    sessions = HoldSessions(SystemClock(), NoAudit(), timeout_s=0.002)

    def come_and_go() -> None:
        for _ in range(300):
            sessions.use(sessions.create("ada", "shop"))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            ended = [threads.submit(come_and_go) for _ in range(4)]
        assert [one.exception() for one in ended] == [None] * 4
    finally:
        sys.setswitchinterval(interval)
