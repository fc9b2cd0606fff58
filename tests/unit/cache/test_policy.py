"""The rules of a kind, and the pure judgement."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querycache.cache.decide import Verdict, calm, decide
from querycache.cache.policy import Policy, positive
from querycache.errors import UsageError

PLAIN = Policy(ttl=100.0)
EARLY = Policy(ttl=100.0, beta=1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ttl": 0.0},
        {"ttl": -1.0},
        {"ttl": math.inf},
        {"ttl": math.nan},
        {"fresh": 0.0},
        {"jitter": 1.0},
        {"jitter": -0.1},
        {"beta": -1.0},
        {"lease": -1.0},
        {"soft_timeout": 0.0},
        {"hard_timeout": -2.0},
    ],
)
def test_senseless_rules_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Policy(**wrong)  # pyright: ignore[reportArgumentType]


def test_a_policy_can_not_be_changed() -> None:
    with pytest.raises(AttributeError):
        PLAIN.ttl = 5.0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


@given(st.floats(0.0, 0.99), st.floats(0.0, 1.0), st.floats(0.1, 1e6))
def test_jitter_only_shortens(jitter: float, draw: float, ttl: float) -> None:
    fresh, usable = Policy(ttl=ttl, jitter=jitter).lives(None, draw)
    assert fresh == usable
    assert ttl * (1.0 - jitter) <= usable * 1.000001
    assert usable <= ttl


def test_a_fresh_life_is_no_longer_than_the_usable_one() -> None:
    swr = Policy(ttl=100.0, fresh=60.0)
    assert swr.lives(None, 0.0) == (60.0, 100.0)
    assert swr.lives(30.0, 0.0) == (30.0, 30.0)
    with pytest.raises(UsageError):
        swr.lives(0.0, 0.0)


def test_positive_says_what_is_wrong() -> None:
    with pytest.raises(UsageError, match="patience"):
        positive("patience", -3.0)


@pytest.mark.parametrize(
    ("fresh_left", "usable_left", "verdict"),
    [
        (10.0, 20.0, Verdict.SERVE),
        (0.0, 20.0, Verdict.SERVE_STALE),
        (-5.0, 20.0, Verdict.SERVE_STALE),
        (-5.0, 0.0, Verdict.LOAD),
        (10.0, -1.0, Verdict.LOAD),
    ],
)
def test_two_lifetimes(fresh_left: float, usable_left: float, verdict: Verdict) -> None:
    judged = decide(PLAIN, fresh_left=fresh_left, usable_left=usable_left, load_s=1.0, draw=1e-9)
    assert judged is verdict


@given(st.floats(1e-9, 1.0), st.floats(0.01, 50.0), st.floats(0.0, 5.0))
def test_xfetch_refreshes_when_the_paper_says(draw: float, left: float, load_s: float) -> None:
    judged = decide(EARLY, fresh_left=left, usable_left=left, load_s=load_s, draw=draw)
    early = -load_s * math.log(draw) >= left
    assert judged is (Verdict.REFRESH_EARLY if early else Verdict.SERVE)


def test_calm_is_the_time_in_which_no_draw_matters() -> None:
    assert calm(PLAIN, fresh_left=50.0, load_s=3.0) == 50.0
    assert calm(EARLY, fresh_left=50.0, load_s=3.0) == 14.0
    assert calm(EARLY, fresh_left=5.0, load_s=3.0) == 0.0
    judged = decide(EARLY, fresh_left=37.0, usable_left=50.0, load_s=3.0, draw=math.exp(-12))
    assert judged is Verdict.SERVE
