"""Leaks are found, each of them; and nothing else is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import pytest

from querycache.observe.leaks import Growth, LeakDetector, Sample

MB = 1 << 20
STEP_S = 20.0
HOUR = 60.0  # in minutes

Course = Callable[[float], float]
"""Minutes to MB."""


def flat(_: float) -> float:
    return 0.0


def samples(rss: Course, l1: Course = flat, minutes: float = 2 * HOUR) -> Iterator[Sample]:
    for turn in range(int(minutes * 60 / STEP_S) + 1):
        at = turn * STEP_S / 60
        yield Sample(1000.0 + at * 60, int((150 + rss(at)) * MB), int(l1(at) * MB))


def found(
    rss: Course, l1: Course = flat, minutes: float = 2 * HOUR, warm_up_s: float = 0.0
) -> list[Growth]:
    detector = LeakDetector(warm_up_s)
    return [growth for sample in samples(rss, l1, minutes) if (growth := detector.add(sample))]


def noise(size: float, seed: int = 5) -> Course:
    draw = Random(seed)  # noqa: S311 -- the same noise in every run
    return lambda _: draw.uniform(-size, size)


def steps(size: float, minutes: float) -> Course:
    return lambda at: size * (at // minutes)


def late(after: float, rate: float) -> Course:
    return lambda at: max(0.0, at - after) * rate


def both(first: Course, second: Course) -> Course:
    return lambda at: first(at) + second(at)


def filling(most: float, minutes: float) -> Course:
    return lambda at: most * min(1.0, at / minutes)


def sawtooth(height: float, minutes: float) -> Course:
    return lambda at: height * (at % minutes) / minutes


LEAKS: dict[str, tuple[Course, Course, str]] = {
    "slow": (lambda at: 2.2 * at, flat, "medium"),
    "noisy": (both(lambda at: 6.0 * at, noise(15)), flat, "high"),
    "in steps": (steps(30, 5), flat, "high"),
    "late": (late(45, 12), flat, "critical"),
    "under a cache that fills": (
        both(lambda at: 6.5 * at, filling(100, 25)),
        filling(100, 25),
        "high",
    ),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_planted_leak_is_found(name: str):
    rss, l1, severity = LEAKS[name]
    growths = found(rss, l1)
    leaks = [growth for growth in growths if growth.kind == "leak"]
    assert leaks
    assert leaks[-1].severity == severity
    assert leaks[-1].grown_mb >= 50
    assert leaks[-1].correlation > 0.7


NO_LEAKS: dict[str, tuple[Course, Course]] = {
    "nothing": (flat, flat),
    "a cache that fills": (lambda at: 1.2 * filling(256, 60)(at), filling(256, 60)),
    "a cache that fills fast": (lambda at: 1.2 * filling(500, 2)(at), filling(500, 2)),
    "a cache that shrank, and memory that stays": (
        filling(200, 20),
        lambda at: filling(200, 20)(at) if at < 40 else max(20.0, 200 - 9 * (at - 40)),
    ),
    "a cache that shrank and fills again": (
        lambda at: 1.2 * (200 if at < 40 else min(200, 5 * (at - 40))),
        lambda at: 200 if at < 40 else min(200, 5 * (at - 40)),
    ),
    "a sawtooth": (sawtooth(90, 4), flat),
    "a slow sawtooth": (sawtooth(60, 25), flat),
    "noise": (noise(60), flat),
    "slower than that": (lambda at: 1.5 * at, flat),
    "one buffer": (lambda at: 80 if at > 40 else 0, flat),
    "a model and an index": (lambda at: min(1.0, max(0.0, at - 20) / 4) * 90, flat),
}


@pytest.mark.parametrize("name", NO_LEAKS)
def test_no_false_alarm(name: str):
    assert found(*NO_LEAKS[name]) == []


@pytest.mark.parametrize("seed", range(12))
def test_noise_that_wanders_back_is_none(seed: int):
    draw = Random(seed)  # noqa: S311 -- the same walk in every run
    level = 0.0

    def walk(_: float) -> float:
        nonlocal level
        level = 0.98 * level + draw.gauss(0, 2)
        return level

    assert found(walk) == []


def test_a_spike_stays():
    (first, *_) = found(lambda at: 130 if at > 30 else 0, minutes=40)
    assert (first.kind, first.severity) == ("spike", "critical")
    assert first.grown_mb == 130
    assert found(lambda at: 130 if 30 < at < 30.5 else 0, minutes=40) == []
    assert found(lambda at: 90 if at > 30 else 0, minutes=40) == []


def test_a_spike_that_was_there_before_is_none():
    heights = found(sawtooth(300, 20), minutes=3 * HOUR)
    assert {growth.kind for growth in heights} <= {"leak", "spike"}
    assert found(lambda at: 150 if at % 20 < 8 else 0, minutes=3 * HOUR) == []


def test_a_start_is_none():
    start = filling(400, 4)
    assert found(start)
    assert found(start, warm_up_s=300) == []


@pytest.mark.parametrize(
    ("rate", "severity"), [(2.5, "medium"), (5.5, "high"), (10.5, "critical")]
)
def test_severity_is_by_rate(rate: float, severity: str):
    growth = found(lambda at: rate * at, minutes=40)[-1]
    assert growth.severity == severity
    assert growth.mb_per_min == pytest.approx(rate, abs=0.05)
    assert growth.minutes == pytest.approx(30, abs=0.2)


def test_it_is_over_when_the_growth_ends():
    growths = found(lambda at: min(at, 40) * 4)
    assert growths
    detector = LeakDetector()
    last = [detector.add(sample) for sample in samples(lambda at: min(at, 40) * 4)][-1]
    assert last is None
