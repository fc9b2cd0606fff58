"""How long something takes: counts in fixed buckets, cheap to add to and to sum over processes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

import msgspec

BOUNDS_S = (
    *(n * 10**-6 for n in (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)),
    *(n * 10**-3 for n in (1, 2, 5, 10, 20, 50, 100, 200, 500)),
    *(1.0, 2.0, 5.0, 10.0, 30.0),
)
"""Upper bounds of the buckets, in seconds; one more bucket holds what took longer."""


class Latency(msgspec.Struct):
    """A histogram. `counts` has one number for each of BOUNDS_S and one for what took longer;
    empty before the first observation. `total_s` is the sum of all.
    """

    counts: list[int] = []
    total_s: float = 0.0

    def observe(self, seconds: float) -> None:
        """Adds one."""
        if not self.counts:
            self.counts = [0] * (len(BOUNDS_S) + 1)
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.total_s += seconds

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """The time in seconds within which `share` (0 to 1) of them ended, interpolated within
        its bucket; None without any.
        """
        wanted, below = share * self.count, 0
        if not below < self.count:
            return None
        for place, count in enumerate(self.counts):
            if count and below + count >= wanted:
                low = BOUNDS_S[place - 1] if place else 0.0
                high = BOUNDS_S[place] if place < len(BOUNDS_S) else low
                return low + (high - low) * max(0.0, wanted - below) / count
            below += count
        return BOUNDS_S[-1]

    @classmethod
    def together(cls, several: Iterable[Latency]) -> Latency:
        """The sum of several."""
        told = [one for one in several if len(one.counts) == len(BOUNDS_S) + 1]
        columns = zip(*(one.counts for one in told), strict=True)
        return cls([sum(column) for column in columns], sum(one.total_s for one in told))
