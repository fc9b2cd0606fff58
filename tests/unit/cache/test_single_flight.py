"""Flights, beside what the races of the whole core show."""

from __future__ import annotations

import asyncio

import pytest

from querycache.cache.refresh import Refresh
from querycache.cache.single_flight import SingleFlight
from querycache.errors import LoadTimeoutError
from querycache.testing import FakeClock

pytestmark = pytest.mark.asyncio


async def test_different_keys_fly_apart() -> None:
    flights: SingleFlight[str] = SingleFlight(FakeClock())

    def work(text: str):  # noqa: ANN202 -- a factory of coroutines
        async def run() -> str:
            return text

        return run

    results = await asyncio.gather(*(flights.run(key, work(key)) for key in "abc"))
    assert results == ["a", "b", "c"]
    assert len(flights) == 0


async def test_a_retired_flight_is_joined_by_nobody_and_still_lands() -> None:
    flights: SingleFlight[int] = SingleFlight(FakeClock())
    gate = asyncio.Event()
    calls: list[int] = []

    async def work() -> int:
        calls.append(1)
        number = len(calls)
        await gate.wait()
        return number

    first = asyncio.ensure_future(flights.run("k", work))
    await asyncio.sleep(0)
    flights.retire("k")
    second = asyncio.ensure_future(flights.run("k", work))
    await asyncio.sleep(0)
    flights.retire_all()
    gate.set()
    assert await asyncio.gather(first, second) == [1, 2]


async def test_tags_retire_what_depends_on_them() -> None:
    flights: SingleFlight[None] = SingleFlight(FakeClock())
    gate = asyncio.Event()

    async def work() -> None:
        await gate.wait()

    waiting = [
        asyncio.ensure_future(flights.run(key, work, tags))
        for key, tags in (("a", ("x",)), ("b", ("y",)), ("c", ()))
    ]
    await asyncio.sleep(0)
    flights.retire_tagged({"x", "z"})
    assert len(flights) == 2
    gate.set()
    await asyncio.gather(*waiting)


async def test_closing_cancels_what_flies() -> None:
    flights: SingleFlight[None] = SingleFlight(FakeClock())
    waiting = asyncio.ensure_future(flights.run("k", asyncio.Event().wait))  # pyright: ignore[reportArgumentType]
    await asyncio.sleep(0)
    await flights.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_timeout_names_the_key() -> None:
    clock = FakeClock()
    flights: SingleFlight[None] = SingleFlight(clock)
    gate = asyncio.Event()

    async def work() -> None:
        await gate.wait()

    waiting = asyncio.ensure_future(flights.run("the key", work, timeout=2.0))
    await clock.advance(3.0)
    with pytest.raises(LoadTimeoutError, match="the key"):
        await waiting
    gate.set()
    await clock.settle()
    assert len(flights) == 0


async def test_refreshes_are_bounded() -> None:
    flights: SingleFlight[None] = SingleFlight(FakeClock())
    refresh: Refresh[None] = Refresh(flights, limit=2)
    gate = asyncio.Event()

    async def work() -> None:
        await gate.wait()

    started = [refresh.behind(key, work, ()) for key in "aabc"]
    assert started == [True, False, True, False]
    gate.set()
    await FakeClock.settle()
    assert refresh.behind("c", work, ())
    await FakeClock.settle()
