from __future__ import annotations

import pytest

from querycache.ports.alerts import Alert
from querycache.ports.findings import Finding, Severity
from querycache.testing import FakeClock
from querycache.usecases.watch_health import WatchHealth

pytestmark = pytest.mark.asyncio


class Bench:
    """A watch over what is put into `wrong`."""

    def __init__(self) -> None:
        self.clock = FakeClock(wall=1000.0)
        self.wrong: list[Finding] = []
        self.told: list[Alert] = []
        self.watch = WatchHealth(self._look, self.told.append, self.clock, interval_s=60.0)

    async def _look(self) -> list[Finding]:
        return self.wrong

    async def looks(self, *wrong: Finding) -> list[tuple[str, str]]:
        """What is told at the next look."""
        self.wrong = list(wrong)
        before = len(self.told)
        await self.clock.advance(60.0)
        assert await self.watch.turn()
        return [(alert.name, alert.state) for alert in self.told[before:]]


def finding(name: str, severity: Severity = "warning", evidence: str = "e") -> Finding:
    return Finding(name, severity, evidence, "do this")


SLOW, DOWN = finding("latency.high"), finding("redis.unreachable", "error")


async def test_it_looks_once_in_an_interval() -> None:
    bench = Bench()
    assert not await bench.watch.turn()
    await bench.clock.advance(59.0)
    assert not await bench.watch.turn()
    await bench.clock.advance(1.0)
    assert await bench.watch.turn()
    assert not await bench.watch.turn()


async def test_a_warning_is_raised_when_it_lasts() -> None:
    bench = Bench()
    assert await bench.looks(SLOW) == []
    assert await bench.looks() == []  # once is never
    assert await bench.looks(SLOW) == []
    assert await bench.looks(SLOW) == [("latency.high", "raised")]
    assert await bench.looks(SLOW) == []
    assert bench.watch.active["latency.high"].since == 1000.0 + 3 * 60


async def test_an_error_is_raised_at_once() -> None:
    bench = Bench()
    assert await bench.looks(DOWN) == [("redis.unreachable", "raised")]


async def test_it_is_over_when_it_stayed_away() -> None:
    bench = Bench()
    await bench.looks(DOWN)
    assert await bench.looks() == []
    assert await bench.looks(DOWN) == []
    assert await bench.looks() == []
    assert await bench.looks() == [("redis.unreachable", "over")]
    assert not bench.watch.active
    assert await bench.looks(DOWN) == [("redis.unreachable", "raised")]


async def test_what_flaps_is_told_once() -> None:
    bench = Bench()
    told = [await bench.looks(*([DOWN] if number % 2 == 0 else [])) for number in range(20)]
    assert sum(map(len, told)) == 1


async def test_each_has_its_own_state_and_its_newest_evidence() -> None:
    bench = Bench()
    await bench.looks(DOWN, SLOW)
    assert await bench.looks(SLOW) == [("latency.high", "raised")]
    worse = finding("latency.high", evidence="worse")
    assert await bench.looks(worse) == [("redis.unreachable", "over")]
    assert bench.watch.active["latency.high"].evidence == "worse"


async def test_what_is_only_information_raises_nothing() -> None:
    bench = Bench()
    for _ in range(3):
        assert await bench.looks(finding("note", "info")) == []


async def test_a_warning_that_becomes_an_error_is_told_again() -> None:
    bench = Bench()
    short, shorter = finding("memory.pressure"), finding("memory.pressure", "error")
    await bench.looks(short)
    assert await bench.looks(short) == [("memory.pressure", "raised")]
    assert await bench.looks(shorter) == [("memory.pressure", "raised")]
    assert bench.told[-1].severity == "error"
    assert await bench.looks(short) == []
    assert await bench.looks(shorter) == []  # it flaps
