"""Reciprocal rank fusion."""

from __future__ import annotations

import pytest

from querycache.origins.fusion import K, fuse


def test_a_score_is_the_sum_of_weighted_reciprocal_ranks() -> None:
    scores = fuse([(0.5, [7, 8]), (1.0, [8])])
    assert scores == {
        7: pytest.approx(0.5 / (K + 1)),
        8: pytest.approx(0.5 / (K + 2) + 1 / (K + 1)),
    }


def test_two_votes_beat_a_better_place_in_one() -> None:
    scores = fuse([(1.0, [1, 2, 3]), (1.0, [4, 5, 3])])
    assert max(scores, key=lambda thing: scores[thing]) == 3


def test_a_lighter_arm_votes_less() -> None:
    assert (scores := fuse([(0.3, [1]), (1.0, [2])]))[2] > scores[1]


def test_nothing_fuses_to_nothing() -> None:
    assert fuse([(1.0, []), (1.0, [])]) == {}
