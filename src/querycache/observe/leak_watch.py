"""Watches a process for leaks: samples its memory, keeps what was found, and names the holder."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from querycache.clock import Clock
from querycache.observe.holders import Holders
from querycache.observe.leaks import Growth, LeakDetector, Sample
from querycache.ports.findings import Finding, Severity

_MB = 1024 * 1024
_KEPT = 100
_OVER_S = 300.0  # without a growth, after which one is over
_SEVERITIES: Mapping[str, Severity] = {
    "critical": "error",
    "high": "error",
    "medium": "warning",
}


class LeakReport(msgspec.Struct, frozen=True):
    """A growth, when it was seen (wall seconds), and who holds what."""

    at: float
    growth: Growth
    holders: tuple[str, ...]
    pid: int

    @property
    def finding(self) -> Finding:
        """The same as a finding; a spike may have its reason, and makes nothing unwell."""
        growth = self.growth
        found = (
            f"memory without L1 grew {growth.grown_mb:.0f} MB in {growth.minutes:.0f} min"
            f" ({growth.mb_per_min:.1f} MB/min, {growth.severity})"
        )
        if growth.kind == "spike":
            found = f"memory without L1 rose {growth.grown_mb:.0f} MB at once, and stays"
        return Finding(
            "memory.leak",
            "info" if growth.kind == "spike" else _SEVERITIES[growth.severity],
            "; ".join([found, *self.holders]),
            f"querycache profile --memory --pid {self.pid}"
            " (started with PYTHONTRACEMALLOC=1, the process names the lines that hold it)",
        )


class LeakWatch:
    """One look with each `sample`.

    Attributes:
        reports: What was found so far, oldest first: each leak once, and again when it gets worse.
        current: What is found now, or was in the last minutes.
    """

    def __init__(
        self,
        clock: Clock,
        pid: int,
        read: Callable[[], tuple[int, int]],
        by_kind: Callable[[], Mapping[str, int]],
        *,
        warm_up_s: float = 0.0,
    ) -> None:
        """`read` tells the bytes that the process has in memory and those that L1 counts;
        `by_kind` the latter by kind.
        """
        self.reports: list[LeakReport] = []
        self.current: LeakReport | None = None
        self._clock = clock
        self._pid = pid
        self._read = read
        self._by_kind = by_kind
        self._detector = LeakDetector(warm_up_s)
        self._holders: Holders | None = None
        self._seen = 0.0

    def sample(self) -> LeakReport | None:
        """Looks; the report of a growth that was not told yet, or got worse. Blocking: call it in
        a thread.
        """
        if self._holders is None:
            self._holders = Holders()
        now = self._clock.monotonic()
        growth = self._detector.add(Sample(now, *self._read()))
        if growth is None:
            if now - self._seen > _OVER_S:
                self.current = None
            return None
        self._seen = now
        told = self.current.growth if self.current else None
        if told is not None and not _worse(growth, told):
            return None
        report = LeakReport(self._clock.wall(), growth, self._named(self._holders), self._pid)
        self.current = report
        self.reports = [*self.reports, report][-_KEPT:]
        return report

    def _named(self, holders: Holders) -> tuple[str, ...]:
        kinds = sorted(self._by_kind().items(), key=lambda held: -held[1])
        held = ", ".join(f"{kind} {size / _MB:.1f} MB" for kind, size in kinds if size)
        return (f"L1 holds {held or 'nothing'}", *holders.grown())


def _worse(growth: Growth, told: Growth) -> bool:
    order = ("medium", "high", "critical")
    if growth.kind != told.kind:
        return growth.kind == "leak"
    return order.index(growth.severity) > order.index(told.severity)
