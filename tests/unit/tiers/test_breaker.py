"""The breaker: what opens it, when it is tried again, and that one probe at a time decides."""

from __future__ import annotations

from random import Random

import pytest

from querycache.testing import FakeClock
from querycache.tiers.breaker import Breaker, Failure


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def middle() -> float:
    """A chance that makes jitter nothing."""
    return 0.5


def test_a_hard_failure_opens_at_once_and_is_probed_at_once(clock: FakeClock):
    breaker = Breaker(clock, chance=middle)
    assert not breaker.open
    assert breaker.failed("hard")
    assert breaker.open
    assert breaker.wait() == 0
    assert breaker.probe()


def test_a_server_that_is_lost_right_after_a_probe_is_not_probed_in_a_tight_loop(clock: FakeClock):
    breaker = Breaker(clock, chance=middle)
    breaker.failed("hard")
    assert breaker.probe()
    breaker.probed(None)
    breaker.failed("hard")
    assert 0 < breaker.wait() <= 0.25
    assert not breaker.probe()


def test_soft_failures_open_it_after_three_within_five_seconds(clock: FakeClock):
    breaker = Breaker(clock, chance=middle)
    opened: list[bool] = []
    for pause in (0.0, 2.6, 2.6, 2.3):  # the first is too old when the third comes
        clock.now += pause
        opened.append(breaker.failed("soft"))
    assert opened == [False, False, False, True]


def test_one_probe_at_a_time(clock: FakeClock):
    breaker = Breaker(clock, chance=middle)
    breaker.failed("hard")
    assert [breaker.probe() for _ in range(3)] == [True, False, False]
    breaker.probed("hard")
    assert not breaker.probe()
    clock.now += breaker.wait()
    assert [breaker.probe() for _ in range(3)] == [True, False, False]


def waits(breaker: Breaker, clock: FakeClock, failure: Failure, count: int) -> list[float]:
    """The pauses between probes that fail so."""
    found: list[float] = []
    for _ in range(count):
        wait = breaker.wait()
        clock.now += wait
        assert breaker.probe()
        breaker.probed(failure)
        found.append(round(wait, 6))
    return found


def test_a_dead_server_is_probed_at_a_constant_interval(clock: FakeClock):
    breaker = Breaker(clock, chance=middle)
    breaker.failed("hard")
    assert waits(breaker, clock, "hard", 20) == [0.0, *[0.2] * 19]


def test_a_slow_server_is_probed_ever_less_often_down_to_every_two_seconds(clock: FakeClock):
    breaker = Breaker(clock, chance=middle)
    for _ in range(3):
        breaker.failed("soft")
    assert waits(breaker, clock, "soft", 6) == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0]


def test_the_last_failure_decides_about_the_next_pause(clock: FakeClock):
    breaker = Breaker(clock, chance=middle)
    breaker.failed("hard")
    assert waits(breaker, clock, "soft", 4) == [0.0, 0.25, 0.5, 1.0]
    assert waits(breaker, clock, "hard", 2) == [2.0, 0.2]
    assert waits(breaker, clock, "soft", 3) == [0.2, 0.25, 0.5]


@pytest.mark.parametrize("failure", ["hard", "soft"])
def test_jitter_stays_within_a_fifth_and_within_the_bounds(clock: FakeClock, failure: Failure):
    breaker = Breaker(clock, chance=Random(7).random)  # noqa: S311 -- a seed
    breaker.failed("hard")
    found = waits(breaker, clock, failure, 200)[10:]
    middle_s = 0.2 if failure == "hard" else 2.0
    bound = 0.25 if failure == "hard" else 2.0
    assert min(found) >= 0.8 * middle_s
    assert max(found) <= min(1.2 * middle_s, bound)
    assert len(set(found)) > 20


def test_success_closes_and_forgets(clock: FakeClock):
    breaker = Breaker(clock, chance=middle)
    for _ in range(3):
        breaker.failed("soft")
    waits(breaker, clock, "soft", 4)
    clock.now += breaker.wait()
    assert breaker.probe()
    breaker.probed(None)
    assert not breaker.open
    assert not breaker.probe()
    assert [breaker.failed("soft") for _ in range(3)] == [False, False, True]
    assert breaker.wait() == pytest.approx(0.25)


def test_what_fails_while_it_is_open_changes_nothing(clock: FakeClock):
    breaker = Breaker(clock, chance=middle)
    breaker.failed("hard")
    waits(breaker, clock, "hard", 1)
    due = breaker.wait()
    assert not any(breaker.failed(kind) for kind in ("hard", "soft", "soft", "soft"))
    assert breaker.wait() == due
