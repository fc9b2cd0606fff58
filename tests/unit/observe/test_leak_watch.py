"""A watch tells each leak once, names who holds what, and forgets what is over."""

from __future__ import annotations

import pytest

from querycache.observe.leak_watch import LeakWatch
from querycache.testing import FakeClock

MB = 1 << 20
pytestmark = pytest.mark.asyncio


class Process:
    """A process whose memory grows as told, watched each 10 s."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.rss = 100.0
        self.watch = LeakWatch(
            self.clock, 77, lambda: (int(self.rss * MB), 10 * MB), lambda: {"file": 7 * MB, "x": 0}
        )

    async def live(self, minutes: float, rate: float) -> None:
        for _ in range(int(minutes * 6)):
            self.watch.sample()
            await self.clock.advance(10)
            self.rss += rate / 6


async def test_a_leak_is_told_once_and_again_when_it_gets_worse():
    process = Process()
    await process.live(45, 3)
    (report,) = process.watch.reports
    assert process.watch.current is report
    assert report.finding.name == "memory.leak"
    assert report.finding.severity == "warning"
    assert "L1 holds file 7.0 MB" in report.finding.evidence
    assert "MB/min, medium" in report.finding.evidence
    assert "--pid 77" in report.finding.remedy
    assert "\n" not in report.finding.evidence
    await process.live(40, 14)
    severities = [report.growth.severity for report in process.watch.reports]
    assert severities == ["medium", "high", "critical"]
    assert process.watch.reports[-1].finding.severity == "error"


async def test_it_is_over_when_the_growth_ends():
    process = Process()
    await process.live(45, 3)
    assert process.watch.current
    await process.live(60, 0)
    assert process.watch.current is None
    assert len(process.watch.reports) == 1


async def test_a_spike_makes_nothing_unwell():
    process = Process()
    await process.live(20, 0)
    process.rss += 150
    await process.live(2, 0)
    (report,) = process.watch.reports
    assert (report.growth.kind, report.finding.severity) == ("spike", "info")
    assert "rose 150 MB at once" in report.finding.evidence


async def test_a_quiet_process_is_told_nothing():
    process = Process()
    await process.live(100, 0.1)
    assert process.watch.reports == []
