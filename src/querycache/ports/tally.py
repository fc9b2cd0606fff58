"""What a process counts of one kind, while it reads and writes."""

from __future__ import annotations

from querycache.ports.latency import Latency


class Tally:
    """Counts of one kind in one process: plain integers that the hit path increments.

    `reasons` counts the misses by their reason; `l1`, `l2` and `load` are how long reads of a tier
    and loads take (L1: by a sample that the background takes).
    """

    __slots__ = (
        "errors",
        "l1",
        "l1_hits",
        "l2",
        "l2_hits",
        "load",
        "loads",
        "misses",
        "reasons",
        "saved_s",
        "sets",
        "stale_hits",
    )

    def __init__(self) -> None:
        self.l1_hits = self.l2_hits = self.stale_hits = self.misses = 0
        self.loads = self.sets = self.errors = 0
        self.saved_s = 0.0
        self.reasons: dict[str, int] = {}
        self.l1, self.l2, self.load = Latency(), Latency(), Latency()
