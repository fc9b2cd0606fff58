"""What a process did over time: rates and latencies, from differences of its counters.

A sample a second is kept for ten minutes, one a minute for a day, in flat arrays: a day of all
series takes some 400 KB. A rate is that of the last ten seconds (or of the minute), so that a
single question is seen for a while; where nothing was asked there is no number.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Mapping

import msgspec

from querycache.ports.latency import Latency
from querycache.usecases.show_status import KindCounts, Snapshot
from querycache.values import Kind

WINDOW_S = 10
SECONDS_KEPT = 600
MINUTES_KEPT = 1440

_MINUTE_S = 60
_SHARE = 0.95

TIERS = ("l1", "l2")
KINDS = tuple(str(kind) for kind in Kind)
SERIES = (
    "reads",
    "hit",
    *(f"hit.{tier}" for tier in TIERS),
    *(f"hit.{kind}" for kind in KINDS),
    *(f"p95.{step}" for step in (*TIERS, "load")),
    *(f"p95.{kind}" for kind in KINDS),
    *("l1_bytes", "l1_max", "rss"),
)
"""`reads` a second; `hit*` shares of reads, of all, of a tier, of a kind; `p95*` in seconds, of a
tier's answers, of loads, and for a kind of whatever L1 did not answer; sizes in bytes.
"""


class Range(msgspec.Struct, frozen=True):
    """Samples `step_s` apart, the last at `at` (wall seconds); None where there is no number."""

    step_s: int
    at: float
    series: dict[str, list[float | None]]


class Ring:
    """The last `limit` samples of each series, `step_s` apart."""

    def __init__(self, limit: int, step_s: int) -> None:
        self._limit = limit
        self._step_s = step_s
        self._kept = {name: array("d", [math.nan]) * limit for name in SERIES}
        self._count = 0
        self._at = 0.0

    def take(self, at: float, sample: Mapping[str, float]) -> None:
        """Keeps a sample; a series that it lacks has no number there."""
        place = self._count % self._limit
        for name, kept in self._kept.items():
            kept[place] = sample.get(name, math.nan)
        self._count += 1
        self._at = at

    def series(self, name: str) -> list[float | None]:
        """Oldest first."""
        kept, place = self._kept[name], self._count % self._limit
        whole = kept[:place] if self._count < self._limit else kept[place:] + kept[:place]
        return [rounded(value) for value in whole]

    def range(self) -> Range:
        """All series."""
        return Range(self._step_s, self._at, {name: self.series(name) for name in SERIES})


class History:
    """Both rings, filled by one `take` each second."""

    def __init__(self) -> None:
        self.seconds = Ring(SECONDS_KEPT, 1)
        self.minutes = Ring(MINUTES_KEPT, _MINUTE_S)
        self._window: deque[Snapshot] = deque(maxlen=WINDOW_S + 1)
        self._minute: tuple[int, Snapshot] | None = None

    def take(self, at: float, did: Snapshot, rss: float | None) -> dict[str, float]:
        """Takes note of what the process did so far, at wall time `at`; the newest sample."""
        self._window.append(did)
        sample = difference(self._window[0], did, rss)
        self.seconds.take(at, sample)
        minute = int(at // _MINUTE_S)
        if self._minute is None:
            self._minute = minute, did
        elif minute != self._minute[0]:
            self.minutes.take(at, difference(self._minute[1], did, rss))
            self._minute = minute, did
        return sample


def difference(before: Snapshot, after: Snapshot, rss: float | None) -> dict[str, float]:
    """One sample: what was done between two looks. Series without a number are left out."""
    kinds = {
        kind: _between(before.kinds.get(kind, KindCounts()), now)
        for kind, now in after.kinds.items()
    }
    done = list(kinds.values())
    l1, l2, misses = (sum(map(count, done)) for count in (_l1_hits, _l2_hits, _misses))
    reads = l1 + l2 + misses
    elapsed = after.uptime_s - before.uptime_s
    found: dict[str, float | None] = {
        "reads": reads / elapsed if elapsed > 0 else None,
        "hit": _share(l1 + l2, reads),
        "hit.l1": _share(l1, reads),
        "hit.l2": _share(l2, l2 + misses),
        "p95.l1": Latency.together(one.l1 for one in done).quantile(_SHARE),
        "p95.l2": Latency.together(one.l2 for one in done).quantile(_SHARE),
        "p95.load": Latency.together(one.load for one in done).quantile(_SHARE),
        "l1_bytes": after.l1_bytes,
        "l1_max": after.l1_max_bytes or None,
        "rss": rss,
    }
    for kind, one in kinds.items():
        hits = one.l1_hits + one.l2_hits
        found[f"hit.{kind}"] = _share(hits, hits + one.misses)
        found[f"p95.{kind}"] = Latency.together([one.l2, one.load]).quantile(_SHARE)
    return {name: value for name, value in found.items() if value is not None}


def rounded(value: float) -> float | None:
    """A number of four digits, as it is sent; None for none."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _l1_hits(count: KindCounts) -> int:
    return count.l1_hits


def _l2_hits(count: KindCounts) -> int:
    return count.l2_hits


def _misses(count: KindCounts) -> int:
    return count.misses


def _between(before: KindCounts, after: KindCounts) -> KindCounts:
    if after.l1_hits < before.l1_hits or after.misses < before.misses:  # counted anew
        return after
    return KindCounts(
        l1_hits=after.l1_hits - before.l1_hits,
        l2_hits=after.l2_hits - before.l2_hits,
        misses=after.misses - before.misses,
        l1=_less(before.l1, after.l1),
        l2=_less(before.l2, after.l2),
        load=_less(before.load, after.load),
    )


def _less(before: Latency, after: Latency) -> Latency:
    if len(before.counts) != len(after.counts):  # none before
        return after
    counts = [now - then for then, now in zip(before.counts, after.counts, strict=True)]
    return Latency(counts, after.total_s - before.total_s)
