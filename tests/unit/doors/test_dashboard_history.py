"""The history of the dashboard: differences of counters, kept within bounds."""

from __future__ import annotations

import math

import pytest

from querycache.doors.dashboard.chart import GROUPS, across, drawn, path, top_of
from querycache.doors.dashboard.history import (
    MINUTES_KEPT,
    SECONDS_KEPT,
    SERIES,
    History,
    Range,
    Ring,
    difference,
)
from querycache.ports.latency import Latency
from querycache.usecases.show_status import KindCounts, Snapshot


def did(uptime_s: float, l1_hits: int = 0, misses: int = 0) -> Snapshot:
    took = Latency()
    for _ in range(misses):
        took.observe(0.004)
    return Snapshot(
        kinds={"search": KindCounts(l1_hits=l1_hits, misses=misses, load=took)},
        uptime_s=uptime_s,
        l1_bytes=1000,
        l1_max_bytes=4000,
    )


def test_a_rate_is_what_was_done_between_two_looks():
    sample = difference(did(10, l1_hits=100, misses=50), did(20, l1_hits=106, misses=54), None)
    assert sample["reads"] == pytest.approx(1.0)
    assert sample["hit"] == sample["hit.l1"] == sample["hit.search"] == pytest.approx(0.6)
    assert sample["hit.l2"] == 0.0
    assert 0.002 <= sample["p95.load"] <= 0.005
    assert (sample["l1_bytes"], sample["l1_max"]) == (1000, 4000)
    assert "rss" not in sample


def test_where_nothing_was_asked_there_is_no_rate():
    sample = difference(did(10, l1_hits=5), did(11, l1_hits=5), 7.0)
    assert sample["reads"] == 0.0
    assert not sample.keys() & {"hit", "hit.l1", "hit.search", "p95.l1", "p95.load"}
    assert sample["rss"] == 7.0


def test_counters_that_began_anew_give_no_negative_rates():
    sample = difference(did(10, l1_hits=100, misses=9), did(11, l1_hits=2, misses=1), None)
    assert sample["reads"] == 3.0
    assert sample["hit"] == pytest.approx(2 / 3)


def test_a_ring_keeps_the_last_in_order():
    ring = Ring(3, 1)
    for at in range(5):
        ring.take(at, {"reads": float(at)})
    seen = ring.range()
    assert (seen.at, seen.series["reads"]) == (4, [2.0, 3.0, 4.0])
    assert seen.series["hit"] == [None, None, None]
    assert set(seen.series) == set(SERIES)


def test_a_day_is_kept_in_minutes():
    history = History()
    for second in range(SECONDS_KEPT + 180):
        history.take(600.0 + second, did(second, l1_hits=second), 1.0)
    seconds, minutes = history.seconds.range(), history.minutes.range()
    assert len(seconds.series["reads"]) == SECONDS_KEPT < MINUTES_KEPT
    assert len(minutes.series["reads"]) == (SECONDS_KEPT + 180) // 60 - 1
    assert minutes.series["reads"] == [1.0] * len(minutes.series["reads"])
    assert seconds.series["hit"][-1] == 1.0


def test_a_line_ends_at_the_right_edge_and_breaks_where_no_number_is():
    assert path([0.0, None, 1.0], 3, "share", 1.0, GROUPS) == "M200 100.0h0M600 0.0h0"
    assert path([0.25, 0.75], 4, "share", 1.0, 2) == "M600 50.0h0"  # the mean of both
    assert path([], 3, "share", 1.0, GROUPS) == ""


def test_scales():
    assert path([1e-6, 10.0], 2, "latency", 1.0, GROUPS) == "M300 100.0h0L600 0.0"
    assert path([96.0], 1, "auto", top_of([[96.0, None]]), GROUPS) == "M600 25.0h0"
    assert [top_of([[value]]) for value in (3.0, 4.0, 0.0, None)] == [4.0, 4.0, 1.0, 1.0]


def test_a_young_history_fills_part_of_the_width():
    seen = Range(1, 0.0, {"hit": [0.5] * 60})
    assert across(seen) == 120
    assert drawn(seen, ["hit", "rss"], "share", 60)["rss"] == ""
    first = drawn(seen, ["hit"], "share", 60)["hit"].partition(" ")[0]
    assert math.isclose(float(first[1:]), 310, abs_tol=10)
