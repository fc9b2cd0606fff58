"""A cache of two processes over Sentinels and over a cluster, of which a part is lost or moves."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from tests.live.fault_kit import LOCKED, SECRET, sizes, soaked, under_load
from tests.redis_kit import SLOTS, Cluster, Sentinels, cluster, sentinels, until

pytestmark = [pytest.mark.asyncio, pytest.mark.live, pytest.mark.alone]

BOTH = (*LOCKED, "--masterauth", SECRET)

BUSY_S = 1.0


def sentinel_url(group: Sentinels) -> str:
    hosts = ",".join(f"{host}:{port}" for host, port in group.addresses)
    return f"redis+sentinel://:{SECRET}@{hosts}/{group.name}"


def cluster_url(group: Cluster) -> str:
    hosts = ",".join(f"{host}:{port}" for host, port in group.addresses)
    return f"redis+cluster://:{SECRET}@{hosts}"


@pytest.mark.parametrize("frozen", [False, soaked(True)], ids=["killed", "frozen"])
@pytest.mark.parametrize("count", sizes(1, 20))
async def test_a_primary_is_lost_and_a_replica_takes_its_place(
    count: int,
    frozen: bool,  # noqa: FBT001 -- a case
    tmp_path: Path,
):
    what = "the primary is frozen" if frozen else "the primary is killed"
    for number in range(count):
        async with sentinels(*BOTH) as group:
            urls = [sentinel_url(group)] * 2
            folder = tmp_path / str(number)
            async with under_load("F10", 10 + number, folder, *urls, what=what, spare=6) as stage:
                with stage.judge.losing():
                    async with stage.outage():
                        old = group.servers[0]
                        old.freeze() if frozen else await old.kill()
                        await stage.said("degraded", connected=False)
                        await promoted(group)
                    await stage.healed(3.0 + BUSY_S)
                    await asyncio.sleep(0.5)
                    if frozen:
                        old.thaw()
                        await asyncio.sleep(0.5)


async def promoted(group: Sentinels) -> None:
    """The Sentinels agree on the replica."""

    async def agree() -> bool:
        named = {await sentinel.primary_port(group.name) for sentinel in group.sentinels}
        return named == {group.servers[1].port}

    await until(agree, "the Sentinels agree", 20)


@pytest.mark.parametrize("count", sizes(1, 15))
async def test_a_primary_is_demoted(count: int, tmp_path: Path):
    """READONLY is no answer: the cache finds the primary that there is now."""
    async with sentinels(*BOTH) as group:
        urls = [sentinel_url(group)] * 2
        async with under_load(
            "F12", 12, tmp_path, *urls, what="a failover on demand", spare=6
        ) as stage:
            for number in range(count):
                await asyncio.sleep(0.2)
                with stage.judge.losing():
                    with stage.judge.trouble():
                        await group.failover()
                    await stage.healed(1.0 + BUSY_S)
                if number + 1 < count:
                    await in_order(group)


async def in_order(group: Sentinels) -> None:
    """Another failover is possible: not too soon, and the Sentinels ask only now and then."""
    for _ in range(3):
        await asyncio.sleep(6.5)
        with suppress(AssertionError):
            return await group.ready()
    raise AssertionError("the Sentinels do not see all")


@pytest.mark.parametrize("slots", sizes(40, 1500))
async def test_slots_move_while_they_are_used(slots: int, tmp_path: Path):
    async with cluster(*BOTH) as group:
        urls = [cluster_url(group)] * 2
        async with under_load("F13", 13, tmp_path, *urls, what="reshard") as stage:
            places = range(0, SLOTS * 2 // 3, SLOTS * 2 // 3 // slots)
            with stage.judge.trouble():
                await group.reshard(list(places)[:slots], group.masters[2])
            await stage.healed(1.0 + BUSY_S)
            stage.found.figures["slots"] = slots


@pytest.mark.parametrize("count", sizes(1, 20))
async def test_a_primary_of_a_cluster_is_killed(count: int, tmp_path: Path):
    options = (*BOTH, "--cluster-require-full-coverage", "no")
    for number in range(count):
        async with cluster(*options, masters=3, replicas=1) as group:
            urls = [cluster_url(group)] * 2
            folder = tmp_path / str(number)
            async with under_load("F14", 14 + number, folder, *urls, what="kill -9") as stage:
                with stage.judge.losing():
                    async with stage.outage():
                        await group.masters[0].kill()
                        await stage.said("degraded", connected=False)

                        async def elected(group: Cluster = group) -> bool:
                            with suppress(AssertionError):
                                return await group.owner(0) is not group.masters[0]
                            return False

                        await until(elected, "another primary", 20)
                    await stage.healed(3.0 + BUSY_S)
                await asyncio.sleep(0.5)
