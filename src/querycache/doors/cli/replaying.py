"""The hit ratio of each eviction policy on a recorded trace."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec

from querycache.assembly.replaying import POLICY_NAMES, make_l1, unpack_frame
from querycache.errors import UsageError
from querycache.usecases.replay_trace import belady, load_trace, replay

_OPTIMUM = "OPTIMUM"
_SHARES = (1, 5, 20)  # per cent of the distinct keys


class Ratio(msgspec.Struct, frozen=True):
    """One policy at one size."""

    capacity: int
    policy: str
    hits: int
    hit_ratio: float


class Ratios(msgspec.Struct, frozen=True):
    """All of them."""

    trace: str
    accesses: int
    distinct: int
    rows: list[Ratio]


def policies_asked(names: Sequence[str]) -> list[str]:
    """The policies named, all without a name. Raises `UsageError`."""
    known = (*POLICY_NAMES, _OPTIMUM)
    asked = list(dict.fromkeys(name.upper() for name in names))
    for name in asked:
        if name not in known:
            raise UsageError(f"no policy {name!r}", remedy=f"take some of {', '.join(known)}")
    return asked or list(known)


def replayed(trace: Path, capacities: Sequence[int], policies: Sequence[str]) -> Ratios:
    """Replays a trace through each policy, in memory of each size. Raises `UsageError`."""
    keys = load_trace(trace, unpack_frame)
    distinct = len(set(keys))
    sizes = capacities or [max(1, distinct * share // 100) for share in _SHARES]
    rows: list[Ratio] = []
    for size in dict.fromkeys(sizes):
        for policy in policies:
            if policy == _OPTIMUM:
                done = belady(keys, size)
            else:
                done = replay(keys, partial(make_l1, policy), size)
            rows.append(Ratio(size, policy, done.hits, done.ratio))
    return Ratios(str(trace), len(keys), distinct, rows)
