"""The primaries of a real cluster: asked for seldom, closed whole."""

from __future__ import annotations

import asyncio

import pytest
from tests.link_kit import Heard
from tests.redis_kit import cluster

from querycache.clock import SystemClock
from querycache.errors import TierError
from querycache.tiers.redis.connection import Limits
from querycache.tiers.redis.endpoint import Endpoint
from querycache.tiers.redis.link import Greeting, UnreachableError
from querycache.tiers.redis.members import Members
from querycache.tiers.redis.node import RedisNode, fixed

pytestmark = pytest.mark.asyncio


async def test_the_map_is_asked_for_at_most_once_a_second():
    async with cluster() as group:
        seeds = [Endpoint(*node.address) for node in group.masters]
        heard = Heard()
        members = Members(
            seeds,
            Greeting(prefixes=(b"p:",)),
            clock=SystemClock(),
            listener=heard,
            limits=Limits(),
        )
        await members.known()
        for node in group.masters:
            await node.ask("CONFIG", "RESETSTAT")
        for _ in range(100):
            members.refresh_soon()
            await asyncio.sleep(0.002)
        asked = [await node.ask("INFO", "commandstats") for node in group.masters]
        assert not any(b"cluster|slots:calls=" in said for said in asked)
        assert len({members.owner(slot).where for slot in range(16384)}) == 3
        tasks = len(asyncio.all_tasks())
        await members.close()
        assert len(asyncio.all_tasks()) < tasks
        assert sorted(heard.gone) == sorted(seed.where for seed in seeds)
        with pytest.raises(UnreachableError, match="closed"):
            await members.known()


async def test_a_redirection_without_a_host_is_at_who_says_so():
    seeds = [Endpoint("127.0.0.1", 1)]
    teller = RedisNode(fixed(seeds[0]), Greeting(), clock=SystemClock())
    members = Members(
        seeds, Greeting(), clock=SystemClock(), listener=None, limits=Limits(deadline_s=0.1)
    )
    here = members.guest("127.0.0.1:7", teller)
    assert members.moved(5, ":9", here).where == "127.0.0.1:9"
    assert members.owner(5).where == "127.0.0.1:9"
    assert [node.where for node in members.primaries()] == ["127.0.0.1:9"]
    with pytest.raises(TierError, match="refused"):
        await members.known()
    await members.close()
