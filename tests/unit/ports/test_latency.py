from __future__ import annotations

from bisect import bisect_left
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querycache.ports.latency import BOUNDS_S, Latency


def test_nothing_observed_has_no_quantile() -> None:
    assert Latency().quantile(0.5) is None
    assert Latency.together([]).count == 0


def test_quantiles_lie_in_the_bucket_of_what_was_observed() -> None:
    latency = Latency()
    for _ in range(99):
        latency.observe(0.0015)
    latency.observe(3.0)
    half, most = latency.quantile(0.5), latency.quantile(1.0)
    assert half is not None
    assert most is not None
    assert 0.001 < half <= 0.002
    assert 2.0 < most <= 5.0
    assert latency.total_s == pytest.approx(99 * 0.0015 + 3.0)


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0, 1))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(times: list[float], share: float) -> None:
    latency = Latency()
    for seconds in times:
        latency.observe(seconds)
    true = sorted(times)[max(1, ceil(share * len(times))) - 1]
    place = bisect_left(BOUNDS_S, true)
    found = latency.quantile(share)
    assert found is not None
    assert (0.0, *BOUNDS_S)[place] <= found <= (*BOUNDS_S, BOUNDS_S[-1])[place]


@given(st.lists(st.floats(0, 100)), st.lists(st.floats(0, 100)))
def test_sums_hold_what_their_parts_hold(ones: list[float], others: list[float]) -> None:
    one, other, both = Latency(), Latency(), Latency()
    for seconds in ones:
        one.observe(seconds)
        both.observe(seconds)
    for seconds in others:
        other.observe(seconds)
        both.observe(seconds)
    summed = Latency.together([one, other])
    assert summed.count == both.count
    assert summed.quantile(0.9) == both.quantile(0.9)
    assert summed.total_s == pytest.approx(both.total_s)


def test_what_another_version_told_is_left_out() -> None:
    one = Latency()
    one.observe(1.0)
    assert Latency.together([one, Latency([1, 2, 3], 5.0)]).count == 1
