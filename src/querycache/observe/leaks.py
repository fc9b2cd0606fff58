"""Finds memory leaks in samples of a process's memory. Pure: no clock, no I/O.

What L1 holds is no leak, nor is memory that the allocator keeps after L1 shrank. So two series
are judged, the process's memory and that without L1, and a leak must show in both. It grows by
50 MB within 30 min at 2 MB/min or more, in step with time (correlation above 0.7); it does so in
several steps, since one is a buffer, a model or an index, and it reaches heights where it has not
been in the hour before, since what comes and goes is no leak. A spike is 100 MB within 5 min that
stay.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from math import sqrt
from statistics import fmean, median
from typing import Literal

import msgspec

_MB = 1024 * 1024
_L1_COST = 1.25  # bytes of memory for each that L1 counts, at most

WINDOW_S = 1800.0
SPIKE_S = 300.0
LEAK_MB, LEAK_MB_PER_MIN, CORRELATION = 50.0, 2.0, 0.7
SPIKE_MB = 100.0

_HISTORY_S = 3600.0  # before the window
_PARTS = 6  # of the window
_IN_TWO_STEPS = 0.75  # of the growth: as much in two neighbouring steps is no steady growth
_NOTHING_MB = 40.0  # a window that spans less holds no leak
_HELD = 3  # samples in which a spike must stay

LeakSeverity = Literal["critical", "high", "medium"]

_SEVERITIES: tuple[tuple[float, LeakSeverity, float], ...] = (
    (10.0, "critical", 10.0),
    (5.0, "high", 20.0),
    (LEAK_MB_PER_MIN, "medium", 29.5),
)
"""From how many MB/min on, and for how many minutes it must go on: who leaks fast can't wait."""


class Sample(msgspec.Struct, frozen=True):
    """One look: at how many seconds (monotonic), the bytes that the process has in memory, and
    those that L1 counts.
    """

    at: float
    rss: int
    l1: int = 0


class Growth(msgspec.Struct, frozen=True):
    """Memory that grows and is not L1's.

    Attributes:
        kind: "leak" is steady; "spike" came at once and stayed.
        severity: By the rate: critical from 10 MB/min, high from 5, medium.
        grown_mb: By how much, in MB, within `minutes`.
        mb_per_min: How fast.
        correlation: How closely it follows time, up to 1.
    """

    kind: Literal["leak", "spike"]
    severity: LeakSeverity
    grown_mb: float
    minutes: float
    mb_per_min: float
    correlation: float


class LeakDetector:
    """Takes samples in order of time; what comes in the first `warm_up_s` does not count."""

    def __init__(self, warm_up_s: float = 0.0) -> None:
        self._warm_up_s = warm_up_s
        self._began: float | None = None
        self._window: deque[Sample] = deque()
        self._before: deque[Sample] = deque()

    def add(self, sample: Sample) -> Growth | None:
        """What the samples up to this one show; None where nothing is wrong."""
        began = self._began = sample.at if self._began is None else self._began
        if sample.at - began < self._warm_up_s:
            return None
        window, before = self._window, self._before
        window.append(sample)
        while sample.at - window[0].at > WINDOW_S:
            before.append(window.popleft())
        while before and sample.at - before[0].at > WINDOW_S + _HISTORY_S:
            before.popleft()
        sizes = [held.rss for held in window]
        if max(sizes) - min(sizes) < _NOTHING_MB * _MB:
            return None  # the usual case, for little
        grown = [self._leak(series) for series in (_whole, _without_l1)]
        if all(grown):
            return grown[1]
        risen = [self._spike(series) for series in (_whole, _without_l1)]
        return risen[1] if all(risen) else None

    def _leak(self, series: _Series) -> Growth | None:
        times = [sample.at / 60 for sample in self._window]
        values = [series(sample) for sample in self._window]
        minutes = times[-1] - times[0]
        rate, follows = _trend(times, values)
        severity, shortest = _judged(rate)
        if rate < LEAK_MB_PER_MIN or minutes < shortest or rate * minutes < LEAK_MB:
            return None
        if follows <= CORRELATION or not _steady(times, values):
            return None
        if fmean(values[-_HELD:]) <= max(map(series, self._before), default=float("-inf")):
            return None
        return Growth(
            kind="leak",
            severity=severity,
            grown_mb=round(rate * minutes, 1),
            minutes=round(minutes, 1),
            mb_per_min=round(rate, 2),
            correlation=round(follows, 2),
        )

    def _spike(self, series: _Series) -> Growth | None:
        now = self._window[-1].at
        recent = [sample for sample in self._window if now - sample.at <= SPIKE_S]
        if len(recent) < 2:  # noqa: PLR2004 -- before and after
            return None
        held = min(map(series, recent[max(1, len(recent) - _HELD) :]))
        grown = held - series(recent[0])
        if grown < SPIKE_MB:
            return None
        older = [*self._before, *(sample for sample in self._window if sample.at < recent[0].at)]
        grown = min(grown, held - max(map(series, older), default=float("-inf")))
        if grown < SPIKE_MB:
            return None
        minutes = max((now - recent[0].at) / 60, 1.0)
        return Growth(
            kind="spike",
            severity=_judged(grown / minutes)[0],
            grown_mb=round(grown, 1),
            minutes=round(minutes, 1),
            mb_per_min=round(grown / minutes, 2),
            correlation=1.0,
        )


class _Series:
    """One number of a sample, in MB."""

    def __init__(self, l1_cost: float) -> None:
        self._l1_cost = l1_cost

    def __call__(self, sample: Sample) -> float:
        return (sample.rss - self._l1_cost * sample.l1) / _MB


_whole, _without_l1 = _Series(0.0), _Series(_L1_COST)


def _steady(times: Sequence[float], values: Sequence[float]) -> bool:
    """Whether it rises in most parts of the window, and ends at its highest."""
    width = (times[-1] - times[0]) / _PARTS
    parts: list[list[float]] = [[] for _ in range(_PARTS)]
    for time, value in zip(times, values, strict=True):
        parts[min(_PARTS - 1, int((time - times[0]) / width))].append(value)
    if not all(parts):
        return False
    levels = [median(part) for part in parts]
    steps = [after - before for before, after in pairwise(levels)]
    whole = levels[-1] - levels[0]
    two = max(first + second for first, second in pairwise(steps))
    return whole > 0 and levels[-1] >= max(levels) and two <= _IN_TWO_STEPS * whole


def _trend(times: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """The slope of the line through the points, and how closely they follow it (correlation)."""
    time, level = fmean(times), fmean(values)
    wide = sum((at - time) ** 2 for at in times)
    high = sum((value - level) ** 2 for value in values)
    joint = sum((at - time) * (value - level) for at, value in zip(times, values, strict=True))
    if not (wide and high):
        return 0.0, 0.0
    return joint / wide, joint / sqrt(wide * high)


def _judged(rate: float) -> tuple[LeakSeverity, float]:
    """The severity of a rate in MB/min, and for how many minutes it must go on."""
    for least, severity, shortest in _SEVERITIES:
        if rate >= least:
            return severity, shortest
    return "medium", WINDOW_S / 60
