"""The link through Sentinels: finds the primary, refuses what is none, follows a failover."""

from __future__ import annotations

import asyncio
import gc
import random

import pytest
from tests.link_kit import Heard, ask, config, get, link_to, put, refused, refused_as, works
from tests.redis_kit import Sentinels, sentinels, until

from querycache.assembly.redis import address
from querycache.tiers.redis.greeting import pack
from querycache.tiers.redis.link import UnreachableError
from querycache.tiers.redis.sentinel import youngest

pytestmark = pytest.mark.asyncio

SECRET = "never-shown"  # noqa: S105 -- of the tests' own servers


def settings(group: Sentinels, password: str = "") -> dict[str, str]:
    hosts = ",".join(f"{host}:{port}" for host, port in group.addresses)
    login = f":{password}@" if password else ""
    return {"REDIS_URL": f"redis+sentinel://{login}{hosts}/{group.name}/0"}


def state(port: int, epoch: int, **more: object) -> dict[str, object]:
    alive = {"is_master": True, "is_sdown": False, "is_odown": False}
    return {"ip": "h", "port": port, "config-epoch": epoch, **alive, **more}


async def test_the_youngest_configuration_counts():
    made = address(config(REDIS_URL="redis+sentinel://h/main"))
    answers = [
        {"main": state(1, 3)},
        {"main": state(2, 5)},
        {"main": state(3, 9, is_sdown=True)},
        {"other": state(4, 9)},
    ]
    assert youngest(made, answers, []) == ("h", 2)
    with pytest.raises(UnreachableError, match="no living primary"):
        youngest(made, answers[2:], [])


async def test_it_finds_the_primary_though_a_sentinel_is_frozen_and_one_is_dead():
    async with sentinels("--requirepass", SECRET, "--masterauth", SECRET) as group:
        heard = Heard()
        group.sentinels[0].freeze()
        async with link_to(heard, **settings(group, SECRET)) as link:
            assert await ask(link, put("a", "1")) == b"OK"
            assert heard.joins == [f"127.0.0.1:{group.servers[0].port}"]
            assert link.nodes()[0].where == heard.joins[0]
            assert await link.call_many([get("a"), get("b")]) == [[b"1"], [None]]
            assert await link.everywhere(pack("PING")) == [[b"PONG"]]
            assert link.pool().most == 1
        group.sentinels[0].thaw()
        await group.sentinels[0].kill()
        async with link_to(**settings(group, SECRET)) as link:
            assert await ask(link, get("a")) == b"1"


async def test_it_follows_a_failover_and_hears_the_new_primary():
    async with sentinels() as group:
        heard = Heard()
        async with link_to(heard, **settings(group)) as link:
            assert await ask(link, put("a", "1")) == b"OK"
            old = group.servers[0]
            new = await group.failover()
            assert new is not old

            async def there() -> bool:
                return link.nodes()[0].where == f"127.0.0.1:{new.port}"

            await until(there, "the old primary is left before it is demoted", 2)
            await works(link, put("a", "2"), b"OK")
            assert await new.ask("GET", "a") == b"2"
            assert link.nodes()[0].where == f"127.0.0.1:{new.port}"
            assert heard.lost == [f"127.0.0.1:{old.port}"]
            assert heard.joins[-1] == f"127.0.0.1:{new.port}"
            await new.ask("SET", "p:x", "1")

            async def told() -> bool:
                return b"p:x" in heard.names

            await until(told, "what changed on the new primary is heard")
            count = heard.names.count(b"p:x")
            await old.ask("CONFIG", "SET", "replica-read-only", "no")
            await old.ask("SET", "p:x", "2")  # nobody listens there any more
            await new.ask("SET", "p:y", "1")

            async def also() -> bool:
                return b"p:y" in heard.names

            await until(also, "the next change is heard")
            assert heard.names.count(b"p:x") == count


@pytest.mark.alone
@pytest.mark.parametrize("way", ["call", "call_many", "everywhere"])
async def test_a_demoted_primary_is_left_at_its_first_refusal(way: str):
    """F12."""
    async with sentinels() as group, link_to(**settings(group)) as link:
        primary, replica = group.servers
        assert await ask(link, put("a", "1")) == b"OK"
        await primary.ask("REPLICAOF", *replica.address)
        if way == "call":
            said = [str(await ask(link, put("a", "2")))]
        elif way == "call_many":
            said = [str(reply) for reply in await link.call_many([put("a", "2")])]
        else:
            said = [str(reply) for reply in await link.everywhere(pack("SET", "a", "2"))]
        assert "READONLY" in said[0]
        error = await refused_as(link, "unreachable")
        assert "no primary any more" in str(error)
        await primary.ask("REPLICAOF", "NO", "ONE")
        assert await works(link, put("a", "3"), b"OK") < 1.0


async def test_who_stops_waiting_leaves_nothing_open():
    draw = random.Random(7)  # noqa: S311 -- when to leave, no secret
    async with sentinels(replicas=0) as group:
        for _ in range(60):
            async with link_to(**settings(group)) as link:
                call = asyncio.ensure_future(refused(link, put("a", "1")))
                await asyncio.sleep(draw.random() * 0.01)
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
        gc.collect()  # what is found open now is an error

        async def alone() -> bool:
            told: list[bytes] = [await each.ask("CLIENT", "LIST") for each in group.sentinels]
            return not any(b"name=querycache" in clients for clients in told)

        await until(alone, "no connection is left")


@pytest.mark.alone
async def test_what_is_wrong_is_told():
    async with sentinels() as group:
        environ = settings(group)
        other = {"REDIS_URL": environ["REDIS_URL"].replace(f"/{group.name}/", "/absent/")}
        async with link_to(**other) as link:
            error = await refused(link)
            assert "absent at the Sentinels" in str(error)
            assert "no such service" in str(error)
        for each in group.sentinels:
            await each.kill()
        loop = asyncio.get_running_loop()
        async with link_to(**settings(group, SECRET)) as link:
            started = loop.time()
            error = await refused(link)
            assert loop.time() - started < 0.3
            assert isinstance(error, UnreachableError)
            assert "none of them answers" in str(error)
            assert SECRET not in f"{error}{error.remedy}"


@pytest.mark.alone
async def test_without_a_living_primary_calls_fail_at_once():
    async with sentinels(replicas=0) as group, link_to(**settings(group)) as link:
        assert await ask(link, put("a", "1")) == b"OK"
        await group.servers[0].kill()
        loop = asyncio.get_running_loop()
        for _ in range(20):
            started = loop.time()
            await refused(link)
            assert loop.time() - started < 0.3
        await group.servers[0].start()
        await works(link, put("a", "2"), b"OK")
