"""The lag of invalidations: one touch at a time, and an overdue one counts as it stands."""

from __future__ import annotations

from querycache.testing import FakeClock
from querycache.tiers.redis.lag import PROBE_S, Lag


def test_a_touch_is_timed_until_it_is_heard() -> None:
    clock = FakeClock()
    lag = Lag(clock)
    assert (lag.last_ms(), lag.worst_ms()) == (None, None)
    assert lag.begin()
    assert not lag.begin()
    clock.now += 0.004
    lag.end()
    lag.end()
    assert lag.last_ms() is not None
    assert round(lag.last_ms() or 0) == 4
    assert not lag.begin()
    clock.now += PROBE_S
    assert lag.begin()


def test_one_that_is_overdue_says_so() -> None:
    clock = FakeClock()
    lag = Lag(clock)
    for delay in (0.001, 3.0):
        assert lag.begin()
        clock.now += delay
        lag.end()
        clock.now += PROBE_S
    assert lag.begin()
    clock.now += 5.0
    assert round(lag.last_ms() or 0) == 5000
    clock.now += 120.0
    lag.end()
    clock.now += PROBE_S
    assert lag.begin()
    clock.now += 0.002
    lag.end()
    assert round(lag.last_ms() or 0) == 2
    assert round(lag.worst_ms() or 0) == 125_000
