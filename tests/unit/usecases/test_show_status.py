"""How the cache is said to be, by what its shared tier tells."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace
from tests.races.core_kit import ALL, Process, processes

from querycache.cache.examining import Checks
from querycache.errors import TierError
from querycache.ports.tiers import L2Info, Pool
from querycache.usecases.show_status.counts import Snapshot, together
from querycache.usecases.show_status.health import Pending, memory_usage, pool_stats
from querycache.usecases.show_status.show import ShowStatus

pytestmark = pytest.mark.asyncio

SERVER = L2Info(
    "redis",
    connected=True,
    ping_ms=0.4,
    entries=3,
    where="cache.example:6379",
    memory_bytes=3 * 512 * 1024,
    memory_peak_bytes=2 * 1024**3,
    pool=Pool(created=3, available=2, in_use=1),
    lag_ms=1.5,
)
GONE = L2Info("redis", connected=False, where="cache.example:6379", error="Connection refused")


class Shown:
    """A status over a tier that tells what it is told to."""

    def __init__(self, process: Process, *, l1: bool, redis: bool) -> None:
        self.info: L2Info | TierError = SERVER
        self.process = process
        self.core = process.core
        self.checks = Checks()
        self.status = ShowStatus(
            process.core,
            process.clock,
            l1_enabled=l1,
            l2_enabled=True,
            redis=redis,
            deletes=lambda: 0,
            failures=lambda: 0,
            checks=lambda: self.checks,
            most_connections=20,
        )

        async def info() -> L2Info:
            if isinstance(self.info, TierError):
                raise self.info
            return self.info

        process.l2.info = info


@asynccontextmanager
async def shown(*, l1: bool = True, redis: bool = True) -> AsyncGenerator[Shown]:
    async with processes() as (process,):
        yield Shown(process, l1=l1, redis=redis)


async def test_a_server_is_shown_with_its_memory_and_connections() -> None:
    async with shown() as seen:
        health = await seen.status.health()
    assert (health.status, health.redis_connected, health.redis_ping_time) == (
        "healthy",
        True,
        0.4,
    )
    assert health.memory_usage == {
        "used_memory": 1_572_864,
        "used_memory_human": "1.50M",
        "used_memory_peak": 2_147_483_648,
        "used_memory_peak_human": "2.00G",
    }
    assert health.connection_pool_stats == {
        "created_connections": 3,
        "available_connections": 2,
        "in_use_connections": 1,
        "max_connections": 20,
    }
    assert (health.l2_where, health.invalidation_lag_ms) == ("cache.example:6379", 1.5)


@pytest.mark.parametrize(
    ("l1", "redis", "status"),
    [
        (True, True, "degraded"),
        (False, True, "disconnected"),
        (True, False, "degraded"),
        (False, False, "unhealthy"),
    ],
)
@pytest.mark.parametrize("raises", [False, True])
async def test_a_server_that_died_is_told_of_at_once(
    *, l1: bool, redis: bool, status: str, raises: bool
) -> None:
    async with shown(l1=l1, redis=redis) as seen:
        assert (await seen.status.health()).redis_connected is redis
        seen.info = TierError("Connection refused") if raises else GONE
        health = await seen.status.health()
    assert (health.status, health.redis_connected, health.redis_ping_time) == (
        status,
        False,
        None,
    )
    assert health.last_error == "Connection refused"
    assert "does not answer" in health.problems[0]
    assert health.connection_pool_stats["created_connections"] == 0


async def test_what_waits_is_counted() -> None:
    async with shown() as seen:
        seen.core.generations.owe(["a", "b"])
        seen.core.generations.owed_tags.add("t")
        health = await seen.status.health()
        assert health.status == "degraded"
        assert health.pending == seen.status.snapshot().pending == Pending(recovery=3)
        seen.core.generations.owed_keys.clear()
        seen.core.generations.owed_tags.clear()


async def test_checks_are_shown_and_added_up() -> None:
    async with shown() as seen:
        seen.checks = Checks().after(100, 0, at=5.0, took_s=0.5).after(50, 2, at=9.0, took_s=0.1)
        one = seen.status.snapshot()
        assert (await seen.status.health()).coherency == one.coherency == seen.checks
    other = replace(
        one, coherency=Checks().after(10, 1, at=7.0, took_s=1.0), pending=Pending(1, 2)
    )
    both = together([one, other])
    assert both.coherency == Checks(3, 160, 3, 9.0, 100.0, 2)
    assert both.pending == Pending(1, 2)
    assert together([]).coherency == Checks()


async def test_the_tiers_are_shaped_over_processes() -> None:
    async with shown() as seen:
        snapshots = [Snapshot({}, l1_bytes=1024 * 1024, l1_size=2, l2_failures=1)] * 2
        tiers = seen.status.shaped(snapshots, await seen.status.health())
    assert (tiers.l1.memory_usage_mb, tiers.l1.size) == (2.0, 4)
    assert (tiers.l2.errors, tiers.l2.backend, tiers.l2.lag_ms) == (2, "redis", 1.5)


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0B"), (1023, "1023B"), (1024, "1.00K"), (5 * 1024**4, "5.00T")],
)
async def test_memory_is_said_as_redis_says_it(count: int, said: str) -> None:
    info = L2Info("redis", connected=True, memory_bytes=count)
    assert memory_usage(info)["used_memory_human"] == said


async def test_the_bound_of_connections_is_that_of_the_settings() -> None:
    info = L2Info("redis", connected=True, pool=Pool(most=7))
    assert pool_stats(info, 20)["max_connections"] == 20
    assert pool_stats(info, 0)["max_connections"] == 7


async def test_a_refused_write_is_a_problem_until_l2_was_told_all() -> None:
    async with shown() as seen:
        l2 = seen.process.l2
        await seen.process.core.generations.take(ALL)
        l2.shared.down = True
        await seen.process.put("v")
        assert (await seen.status.health()).status == "degraded"
        l2.shared.down = False
        assert await seen.core.settle()
        assert (await seen.status.health()).status == "healthy"
