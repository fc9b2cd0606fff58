"""Administration on real servers: the client, its connections, and settings given to servers."""

from __future__ import annotations

import asyncio
import ssl
import threading
from typing import Any

import pytest
from redis.exceptions import AuthenticationError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from tests.link_kit import admin
from tests.redis_kit import cluster, redis_server, sentinels, until

from querycache.errors import ClosedError, TierError
from querycache.ports.tiers import Pool
from querycache.tiers.redis.administration import RedisAdministration
from querycache.tiers.redis.clients import failure

pytestmark = pytest.mark.asyncio


def at(port: int, **more: str) -> dict[str, str]:
    return {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(port), **more}


async def test_the_client_answers_in_bytes_as_the_guide_uses_it():
    async with redis_server() as server, admin(**at(server.port)).client() as client:
        redis: Any = client
        for number in range(3):
            await redis.set(f"codebase_rag:{number}", "v")
        await redis.set("foreign", "v")
        keys = [key async for key in redis.scan_iter(match="codebase_rag:*")]
        assert sorted(key.decode() for key in keys) == [f"codebase_rag:{n}" for n in range(3)]
        assert await redis.memory_usage(keys[0]) > 0
        assert await redis.delete(*keys) == 3
        assert await redis.get("foreign") == b"v"


async def test_connections_are_counted_bounded_shared_and_closed():
    async with redis_server() as server:
        made = admin(**at(server.port, REDIS_MAX_CONNECTIONS="3", CACHE_CONNECTION_POOL_SIZE="2"))
        assert made.pool() == Pool(most=3)
        async with made.client() as first:
            async with made.client() as second:
                assert first is second
                waits: list[Any] = [
                    asyncio.ensure_future(first.blpop("nothing", 0.2)) for _ in range(5)
                ]

                async def busy() -> bool:
                    return made.pool() == Pool(3, 0, 3, 3)

                await until(busy, "three connections are in use")
                assert await asyncio.gather(*waits) == [None] * 5  # the others waited their turn
            assert made.pool() == Pool(3, 3, 0, 3)
        assert made.pool() == Pool(most=3)
        await made.close()
        with pytest.raises(ClosedError):
            async with made.client():
                pass


async def test_each_loop_has_a_client_of_its_own():
    async with redis_server() as server:
        made = admin(**at(server.port))
        assert isinstance(made, RedisAdministration)
        found: list[object] = []

        async def use() -> None:
            async with made.client() as client:
                await client.incr("n")
                found.append(client)

        for _ in range(3):
            thread = threading.Thread(target=lambda: asyncio.run(use()))
            thread.start()
            await asyncio.to_thread(thread.join)
        async with made.client() as client:
            found.append(client)
            assert await client.get("n") == b"3"
        assert len(set(map(id, found))) == 4
        assert made.pool().created == 0


@pytest.mark.alone
async def test_it_waits_as_long_as_the_settings_say():
    loop = asyncio.get_running_loop()
    async with redis_server() as server:
        server.freeze()
        patient = {
            "REDIS_SOCKET_TIMEOUT": "0.1",
            "REDIS_CONNECTION_TIMEOUT": "0.1",
            "REDIS_MAX_RETRIES": "2",
        }
        for again, least, most in (("true", 0.3, 2.0), ("false", 0.1, 0.25)):
            started = loop.time()
            with pytest.raises(TierError, match=f"127.0.0.1:{server.port}"):
                await admin(**at(server.port, REDIS_RETRY_ON_TIMEOUT=again, **patient)).servers()
            assert least <= loop.time() - started < most
        server.thaw()


async def test_settings_are_given_and_read_back():
    async with redis_server() as server:
        made = admin(**at(server.port))
        (done,) = await made.apply("4gb", "allkeys-lfu")
        assert done.where == f"127.0.0.1:{server.port}"
        assert done.before == {"maxmemory": "0", "maxmemory-policy": "noeviction"}
        assert done.after == {"maxmemory": "4294967296", "maxmemory-policy": "allkeys-lfu"}
        assert await server.ask("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"4294967296"]
        for size, count in (("100", 100), ("3k", 3000), ("3KB", 3072), ("1m", 10**6)):
            assert (await made.apply(size, "noeviction"))[0].after["maxmemory"] == str(count)
        (seen,) = await made.servers()
        assert (seen.max_memory_bytes, seen.max_memory_policy) == (10**6, "noeviction")
        assert seen.memory_bytes > 0
        assert seen.memory_human
        assert seen.version
        assert seen.role == "master"


async def test_what_an_error_of_redis_py_means():
    where = "h:6379"
    login = failure(where, AuthenticationError("WRONGPASS invalid username-password pair"))
    assert "refuses the login" in str(login)
    assert "REDIS_PASSWORD" in login.remedy
    assert str(failure(where, ResponseError("ERR no"))) == "Redis at h:6379 refuses: ERR no"
    asked = failure(
        where,
        AuthenticationError(
            "HELLO must be called with the client already"
            " authenticated, otherwise the HELLO AUTH <user> <pass> option"
        ),
    )
    assert "it asks for a password (NOAUTH)" in str(asked)
    assert "HELLO" not in str(asked)
    assert "rediss://" in failure(where, RedisTimeoutError("Timeout")).remedy
    lost = failure(where, RedisConnectionError("Error 111"))
    assert str(lost) == "Error connecting to Redis at h:6379: Error 111"
    sealed = RedisConnectionError("x")
    sealed.__context__ = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]")
    assert "TLS handshake failed" in str(failure(where, sealed))


async def test_a_server_without_config_is_a_clear_error():
    async with redis_server("--rename-command", "CONFIG", "") as server:
        with pytest.raises(TierError, match="knows no CONFIG command") as told:
            await admin(**at(server.port)).apply("1gb", "allkeys-lru")
        assert "managed service" in told.value.remedy


async def test_nobody_there_is_a_clear_error():
    made = admin(**at(1, REDIS_MAX_RETRIES="0"))
    for call in (made.servers, lambda: made.apply("1gb", "allkeys-lru")):
        with pytest.raises(TierError, match=r"Error connecting to Redis at 127.0.0.1:1") as told:
            await call()
        assert isinstance(told.value, ConnectionError)
        assert told.value.remedy


async def test_the_servers_of_sentinels():
    async with sentinels() as group:
        hosts = ",".join(f"{host}:{port}" for host, port in group.addresses)
        made = admin(REDIS_URL=f"redis+sentinel://{hosts}/{group.name}/0")
        async with made.client() as client:
            await client.set("a", "1")
            assert await client.get("a") == b"1"
        assert made.pool().created == 0
        assert [server.role for server in await made.servers()] == ["master", "slave"]
        done = await made.apply("64mb", "allkeys-lru")
        assert [one.after["maxmemory"] for one in done] == [str(64 * 2**20)] * 2
        with pytest.raises(TierError, match="absent") as told:
            await admin(REDIS_URL=f"redis+sentinel://{hosts}/absent").servers()
        assert "know no such service" in str(told.value)
        assert "redis.asyncio" not in str(told.value)


async def test_the_servers_of_a_cluster():
    async with cluster(masters=3) as group:
        hosts = ",".join(f"{host}:{port}" for host, port in group.addresses[:2])
        made = admin(REDIS_URL=f"redis+cluster://{hosts}")
        async with made.client() as client:
            redis: Any = client
            for number in range(20):
                await redis.set(f"k{number}", number)
            assert b"k1" in [key async for key in redis.scan_iter("k1*")]
            pool = made.pool()
            assert pool.created == pool.available + pool.in_use > 0
        assert {server.mode for server in await made.servers()} == {"cluster"}
        assert len(await made.apply("64mb", "allkeys-lru")) == 3
        await group.masters[0].kill()
        assert len(await made.servers()) == 2
        with pytest.raises(TierError, match="Error connecting"):
            await made.apply("65mb", "allkeys-lru")
