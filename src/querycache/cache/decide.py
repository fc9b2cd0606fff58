"""Pure: what was found and the time -> what to do."""

from __future__ import annotations

import math
from enum import Enum, auto

from querycache.cache.policy import Policy


class Verdict(Enum):
    """What to do with what a tier holds."""

    SERVE = auto()
    REFRESH_EARLY = auto()  # serve: it is fresh; and refresh behind
    SERVE_STALE = auto()  # usable, not fresh: serve and refresh behind
    LOAD = auto()  # nothing usable


def decide(
    policy: Policy, *, fresh_left: float, usable_left: float, load_s: float, draw: float
) -> Verdict:
    """Judges an entry whose generation holds.

    Args:
        policy: The rules of its kind.
        fresh_left: Seconds until it is stale; negative once it is.
        usable_left: Seconds until it must not be served.
        load_s: How long its load took, in seconds.
        draw: A uniform random number in (0, 1].
    """
    if usable_left <= 0.0:
        return Verdict.LOAD
    if fresh_left <= 0.0:
        return Verdict.SERVE_STALE
    if policy.beta and -load_s * policy.beta * math.log(draw) >= fresh_left:
        return Verdict.REFRESH_EARLY
    return Verdict.SERVE


def calm(policy: Policy, *, fresh_left: float, load_s: float) -> float:
    """For how many seconds from now an entry needs no decision.

    With early refresh the draw matters only near the end: before 12 times `load_s * beta` it would
    have to fall below e^-12.
    """
    return max(0.0, fresh_left - 12.0 * load_s * policy.beta)
