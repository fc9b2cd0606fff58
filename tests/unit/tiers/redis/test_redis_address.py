"""Addresses as settings give them, and that real servers are reached by each kind."""

from __future__ import annotations

import asyncio

import pytest
from tests.link_kit import admin, ask, config, get, link_to, put, refused, refused_as, works
from tests.redis_kit import redis_server

from querycache.assembly.redis import address
from querycache.clock import SystemClock
from querycache.errors import ConfigError, TierError
from querycache.tiers.redis.address import Address, Login
from querycache.tiers.redis.cluster import ClusterLink
from querycache.tiers.redis.connection import Limits
from querycache.tiers.redis.greeting import pack
from querycache.tiers.redis.link import Greeting, Request, UnreachableError
from querycache.tiers.redis.sentinel import SentinelLink
from querycache.tiers.redis.single import SingleLink
from querycache.tiers.redis.tls import Tls
from querycache.tiers.redis.topology import links

pytestmark = pytest.mark.asyncio

SECRET = "pa:ss@w/ord"  # noqa: S105 -- of the tests' own servers
WRITTEN = "pa%3Ass%40w%2Ford"


async def test_the_parts_make_one_server():
    made = address(config(REDIS_HOST="h", REDIS_PORT="7000", REDIS_DB="3", REDIS_PASSWORD=SECRET))
    assert made == Address("single", (("h", 7000),), login=Login("", SECRET), database=3)
    assert made.where == "h:7000"
    assert SECRET not in f"{made!r} {made}"


async def test_an_address_says_what_kind_it_is():
    made = address(
        config(REDIS_URL=f"rediss+sentinel://ann:{WRITTEN}@h1:1,[::1]:2/main/5?sentinel_user=s")
    )
    assert made == Address(
        "sentinel",
        (("h1", 1), ("::1", 2)),
        service="main",
        login=Login("ann", SECRET),
        sentinel_login=Login("s"),
        database=5,
        tls=Tls(),
    )
    assert made.where == "main at the Sentinels h1:1,[::1]:2"
    assert address(config(REDIS_URL="unix:///run/r.sock")).where == "/run/r.sock"
    cluster = address(config(REDIS_URL="redis+cluster://h1,h2:7001"))
    assert cluster.where == "the cluster of h1:6379,h2:7001"


async def test_files_of_tls_are_named():
    with pytest.raises(ConfigError, match=r"/no\.crt"):
        config(REDIS_URL="rediss://h", REDIS_SSL_CA_CERT_PATH="/no.crt")


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://h", SingleLink),
        ("unix:///run/r.sock", SingleLink),
        ("redis+sentinel://h/main", SentinelLink),
        ("redis+cluster://h", ClusterLink),
    ],
)
async def test_each_kind_has_its_link(url: str, kind: type[object]):
    make = links(address(config(REDIS_URL=url)), clock=SystemClock(), limits=Limits())
    link = make(Greeting(), None)
    assert type(link) is kind
    assert link.pool().created == 0
    await link.close()


# --- real servers ------------------------------------------------------------------------------


async def test_a_socket_a_database_and_a_password():
    async with redis_server("--requirepass", SECRET) as server:
        url = f"unix://:{WRITTEN}@{server.socket}?db=2"
        async with link_to(REDIS_URL=url) as link:
            assert await ask(link, put("a", "1")) == b"OK"
            assert link.nodes()[0].where == str(server.socket)
        async with link_to(REDIS_URL=f"redis://:{WRITTEN}@127.0.0.1:{server.port}/2") as link:
            assert await ask(link, get("a")) == b"1"
        environ = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(server.port)}
        async with link_to(REDIS_PASSWORD=SECRET, **environ) as link:
            assert await ask(link, get("a")) is None
        async with admin(REDIS_URL=url).client() as client:
            assert await client.get("a") == b"1"


async def test_an_acl_user_may_what_it_may():
    async with redis_server() as server:
        await server.ask("ACL", "SETUSER", "ann", "on", f">{SECRET}", "+@all", "-config", "~a*")
        url = f"redis://ann:{WRITTEN}@127.0.0.1:{server.port}"
        async with link_to(REDIS_URL=url) as link:
            assert await ask(link, put("a", "1")) == b"OK"
            assert "NOPERM" in str(await ask(link, put("b", "1")))
            who = await ask(link, Request(b"a", pack("ACL", "WHOAMI")))
            assert who == b"ann"
        with pytest.raises(TierError, match="NOPERM") as told:
            await admin(REDIS_URL=url).apply("1mb", "noeviction")
        assert "ACL SETUSER" in told.value.remedy
        assert SECRET not in str(told.value)


@pytest.mark.alone
@pytest.mark.parametrize("user", ["", "ann"])
async def test_a_wrong_password_fails_at_once_and_is_not_shown(user: str):
    """F15."""
    loop = asyncio.get_running_loop()
    async with redis_server("--requirepass", "right") as server:
        url = f"redis://{user}:{WRITTEN}@127.0.0.1:{server.port}"
        async with link_to(REDIS_URL=url) as link:
            for _ in range(3):
                started = loop.time()
                error = await refused(link)
                assert loop.time() - started < 0.3
                assert isinstance(error, UnreachableError)
                assert error.code == "auth"
                assert f"127.0.0.1:{server.port}" in str(error)
                assert SECRET not in f"{error} {error.remedy} {error!r}"
        started = loop.time()
        with pytest.raises(TierError, match="refuses the login") as told:
            await admin(REDIS_URL=url).servers()
        assert loop.time() - started < 0.3
        assert SECRET not in f"{told.value} {told.value.remedy} {told.value.__cause__}"


async def test_a_password_that_is_rotated():
    async with redis_server("--requirepass", "old") as server:
        url = f"redis://:old@127.0.0.1:{server.port}"
        async with link_to(REDIS_URL=url) as link:
            assert await ask(link, put("a", "1")) == b"OK"
            await server.ask("CONFIG", "SET", "requirepass", "new")
            server.options = ("--requirepass", "new")
            assert await ask(link, get("a")) == b"1"  # who is in stays in
            await server.ask("CLIENT", "KILL", "TYPE", "normal")
            await refused_as(link, "auth")
            await server.ask("CONFIG", "SET", "requirepass", "old")
            server.options = ("--requirepass", "old")
            await works(link, get("a"), b"1")


async def test_without_a_server_the_error_says_where():
    async with link_to(REDIS_HOST="127.0.0.1", REDIS_PORT="1") as link:
        error = await refused(link)
    assert isinstance(error, ConnectionError)
    assert "Error connecting to Redis" in str(error)
    assert "127.0.0.1:1" in str(error)
    assert "refused" in str(error)
