"""The link to a cluster: routing, redirections, a map that is kept up to date."""

from __future__ import annotations

import asyncio

import pytest
from tests.link_kit import Heard, ask, get, link_to, put, refused, works
from tests.redis_kit import SLOTS, Cluster, ClusterNode, cluster, redis_server, until

from querycache.errors import TierError
from querycache.tiers.redis.greeting import pack
from querycache.tiers.redis.link import RefusedError, Request, UnreachableError
from querycache.tiers.redis.names import slot_of

pytestmark = pytest.mark.asyncio

SECRET = "never-shown"  # noqa: S105 -- of the tests' own servers
NAMES = [f"name:{number}" for number in range(200)]


def settings(*nodes: ClusterNode, password: str = "") -> dict[str, str]:
    hosts = ",".join(f"{host}:{port}" for host, port in (node.address for node in nodes))
    login = f":{password}@" if password else ""
    return {"REDIS_URL": f"redis+cluster://{login}{hosts}"}


async def elsewhere(group: Cluster, name: str) -> tuple[int, ClusterNode, ClusterNode]:
    """The slot of a name, who holds it, and another primary."""
    slot = slot_of(name.encode())
    owner = await group.owner(slot)
    return slot, owner, next(node for node in group.masters if node is not owner)


async def test_a_batch_travels_to_all_nodes_in_one_call():
    async with cluster("--requirepass", SECRET, "--masterauth", SECRET) as group:
        heard = Heard()
        environ = settings(group.masters[1], password=SECRET)
        async with link_to(heard, **environ) as link:
            done = await link.call_many([put(name, name) for name in NAMES])
            assert done == [[b"OK"]] * len(NAMES)
            found = await link.call_many([get(name) for name in NAMES])
            assert found == [[name.encode()] for name in NAMES]
            assert await ask(link, get(NAMES[7])) == NAMES[7].encode()
            sizes = [reply[0] for reply in await link.everywhere(pack("DBSIZE"))]
            assert len(sizes) == 3
            assert sum(size for size in sizes if isinstance(size, int)) == len(NAMES)
            pool = link.pool()
            assert (pool.created, pool.available + pool.in_use, pool.most) == (3, 3, 3)
            wheres = {f"127.0.0.1:{node.port}" for node in group.masters}
            assert {node.where for node in link.nodes()} == wheres == {*heard.joins}
        assert {*heard.gone} == wheres
        assert not heard.lost


async def test_redirections_are_followed_and_remembered():
    async with cluster() as group, link_to(**settings(*group.nodes)) as link:
        assert await ask(link, put("k5", "1")) == b"OK"
        slot, _, to = await elsewhere(group, "k5")
        other = "{k5}:other"
        both = Request(other.encode(), pack("SET", other, "x") + pack("GET", other), 2)
        split = Request(b"k5", pack("MGET", "k5", other))
        async with group.moving(slot, to) as old:
            assert await ask(link, get("k5")) == b"1"  # still there
            with pytest.raises(RefusedError, match="TRYAGAIN"):
                await link.call(split)
            assert (await link.call_many([split, get("k6")]))[1] == [None]
            assert await link.call(both) == [b"OK", b"x"]  # ASK
            assert await to.ask("DBSIZE") == 1
            where = {node.where for node in link.nodes()}
            assert f"127.0.0.1:{old.port}" in where
        assert await ask(link, split) == [b"1", b"x"]  # MOVED
        results = await link.call_many([get("k5"), get(other), put("k5", "2")])
        assert results == [[b"1"], [b"x"], [b"OK"]]
        assert await group.owner(slot) is to
        assert await to.ask("GET", "k5") == b"2"


async def test_a_node_that_left_is_told_gone_and_one_that_came_is_heard():
    async with cluster(masters=3) as group:
        first, last, newcomer = group.masters
        heard = Heard()
        async with link_to(heard, **settings(last)) as link:
            assert await ask(link, put("a", "1")) == b"OK"
            slots = (2 * SLOTS // 3, SLOTS - 1)
            for node in group.masters:
                await node.ask("CLUSTER", "DELSLOTSRANGE", *slots)
            await first.ask("CLUSTER", "ADDSLOTSRANGE", *slots)
            await first.ask("CLUSTER", "BUMPEPOCH")
            await group.ready()
            gone = f"127.0.0.1:{newcomer.port}"
            name = next(n for n in NAMES if slot_of(n.encode()) >= slots[0])

            async def left() -> bool:
                await asyncio.gather(link.call(get(name)), return_exceptions=True)
                return heard.gone == [gone]

            await until(left, "the node without slots is gone")
            assert len(link.nodes()) == 2
            await first.ask("CLUSTER", "SETSLOT", 0, "NODE", newcomer.id)
            await newcomer.ask("CLUSTER", "SETSLOT", 0, "NODE", newcomer.id)
            await newcomer.ask("CLUSTER", "BUMPEPOCH")
            assert not heard.late

            async def came() -> bool:
                return heard.joins.count(gone) == 2

            await until(came, "the newcomer is heard, though nobody asks for its slots")
            assert heard.late == [gone]


@pytest.mark.alone
async def test_a_lost_node_costs_its_share_alone():
    loop = asyncio.get_running_loop()
    async with cluster() as group, link_to(Heard(), **settings(*group.nodes)) as link:
        await link.call_many([put(name, name) for name in NAMES])
        _, dead, _ = await elsewhere(group, NAMES[0])
        await dead.kill()
        for _ in range(3):
            started = loop.time()
            found = await link.call_many([get(name) for name in NAMES])
            assert loop.time() - started < 0.3
            for name, reply in zip(NAMES, found, strict=True):
                assert isinstance(reply, TierError) or reply == [name.encode()]
            assert isinstance(found[0], UnreachableError)
            assert sum(isinstance(reply, TierError) for reply in found) < len(NAMES) / 2
        await dead.start()
        await group.ready()
        await works(link, put(NAMES[0], "again"), b"OK")


@pytest.mark.alone
async def test_seeds_may_be_replicas_frozen_or_dead():
    loop = asyncio.get_running_loop()
    async with cluster(masters=3, replicas=1) as group:
        await group.nodes[3].kill()
        group.nodes[4].freeze()
        started = loop.time()
        async with link_to(**settings(*group.nodes[3:])) as link:
            assert await ask(link, put("a", "1")) == b"OK"
            assert loop.time() - started < 0.25
            assert len(link.nodes()) == 3
        group.nodes[4].thaw()


@pytest.mark.alone
async def test_what_is_wrong_is_told_and_told_at_once_the_next_time():
    loop = asyncio.get_running_loop()
    async with redis_server() as server:
        async with link_to(REDIS_URL=f"redis+cluster://127.0.0.1:{server.port}") as link:
            error = await refused(link)
            assert "a server of no cluster" in str(error)
            assert "redis://" in error.remedy
        url = f"redis+cluster://:{SECRET}@127.0.0.1:{server.port}"
        async with link_to(REDIS_URL=url) as link:
            error = await refused(link)
            assert "password" in str(error)
            assert SECRET not in str(error)
            started = loop.time()
            again = await link.call_many([get("a")] * 100)
            assert loop.time() - started < 0.05
            assert all(isinstance(one, UnreachableError) for one in again)
            with pytest.raises(TierError):
                await link.everywhere(pack("PING"))


async def test_a_caller_that_leaves_disturbs_nobody():
    async with cluster() as group, link_to(**settings(*group.nodes)) as link:
        await link.call_many([put(name, name) for name in NAMES])
        for node in group.masters:
            await node.ask("CLIENT", "PAUSE", 100)
        batch = asyncio.ensure_future(link.call_many([get(name) for name in NAMES]))
        await asyncio.sleep(0)
        batch.cancel()
        found = await asyncio.gather(*(link.call(get(name)) for name in NAMES))
        assert found == [[name.encode()] for name in NAMES]
        with pytest.raises(asyncio.CancelledError):
            await batch
        assert link.pool().created == 3
