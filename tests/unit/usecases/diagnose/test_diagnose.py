"""The run of the checks: side by side, each in its time, told in the guide's order."""

from __future__ import annotations

import asyncio

import pytest

from querycache.clock import SystemClock
from querycache.errors import TierError
from querycache.ports.probing import Probed, Redis
from querycache.usecases.diagnose import Diagnose, Look, Thresholds
from querycache.usecases.diagnose.checks import CHECKS, Looked
from querycache.usecases.diagnose.figures import Settings, Store

pytestmark = pytest.mark.asyncio


def diagnose(deadline_s: float = 5.0, **looks: Look) -> Diagnose:
    return Diagnose(looks, Thresholds(), SystemClock(), ttl_s=3600.0, deadline_s=deadline_s)


async def down() -> Redis:
    return Redis((Probed("h:1", "unreachable", "refused"),))


async def wrong() -> Settings:
    return Settings(("CACHE_LEVEL: no",), "set it", ("CACHE_X is not a setting",))


async def forever() -> Store:
    await asyncio.Event().wait()
    raise AssertionError


async def test_what_is_found_comes_in_the_guides_order():
    told: list[tuple[int, int, str]] = []

    def progress(done: int, count: int, name: str) -> None:
        told.append((done, count, name))

    found = await diagnose(redis=down, settings=wrong)(progress)
    assert [one.name for one in found.findings] == [
        "redis.unreachable",
        "config.invalid",
        "config.unknown",
    ]
    assert not found.well
    assert [check.name for check in found.checks] == [check.name for check in CHECKS]
    assert found.checks[0].findings == ("redis.unreachable",)
    assert told[-1] == (len(CHECKS), len(CHECKS), "system")


async def test_a_look_that_hangs_is_a_finding_and_stops_no_other():
    found = await diagnose(0.05, store=forever, settings=wrong)()
    assert [one.name for one in found.findings] == [
        "check.unfinished",
        "config.invalid",
        "config.unknown",
    ]
    assert "it had not ended after 0.05 s" in found.findings[0].evidence
    assert found.took_ms < 3000


async def test_looks_run_side_by_side():
    both = asyncio.Barrier(2)

    async def store() -> Store:
        await both.wait()
        return Store("none")

    async def settings() -> Settings:
        await both.wait()
        return Settings()

    assert (await diagnose(store=store, settings=settings)()).well


@pytest.mark.parametrize("error", [TierError("it is gone"), ValueError("it is gone")])
async def test_a_look_that_fails_is_a_finding(error: Exception):
    async def fails() -> Store:
        raise error

    found = await diagnose(store=fails)()
    assert [one.name for one in found.findings] == ["check.unfinished"]
    assert f"{type(error).__name__}: it is gone" in found.findings[0].evidence


async def test_who_stops_waiting_leaves_no_task_behind():
    running = asyncio.ensure_future(diagnose(store=forever)())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_every_need_of_a_check_can_be_looked_at():
    assert {name for check in CHECKS for name in check.needs} == set(Looked.__struct_fields__)
    assert (await diagnose()()).well
