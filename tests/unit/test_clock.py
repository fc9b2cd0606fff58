"""The machine's clock, and the one that tests move."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest

from querycache.clock import SystemClock
from querycache.testing import FakeClock

pytestmark = pytest.mark.asyncio


async def test_monotonic_time_goes_on_while_asleep():
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0.01)
    assert clock.monotonic() - before >= 0.0099


async def test_wall_time_is_unix_time():
    year = dt.datetime.fromtimestamp(SystemClock().wall(), dt.UTC).year
    assert 2020 < year < 2200


async def test_a_fake_clock_wakes_sleepers_in_order():
    clock = FakeClock()
    woken: list[str] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(name)

    async with asyncio.TaskGroup() as tasks:
        for name, seconds in (("late", 3.0), ("early", 1.0), ("middle", 2.0)):
            tasks.create_task(sleeper(name, seconds))
        before = clock.monotonic(), clock.wall()
        await clock.advance(2.5)
        assert woken == ["early", "middle"]
        assert (clock.monotonic() - before[0], clock.wall() - before[1]) == (2.5, 2.5)
        await clock.advance(0.5)
        assert woken == ["early", "middle", "late"]
