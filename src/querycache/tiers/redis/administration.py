"""Administration: the client that callers get, and what is asked of and done to the servers.

Each event loop shares one client, which lives while a block of that loop is open: nothing idles,
and nothing outlives its loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from redis.utils import str_if_bytes

from querycache.errors import ClosedError, TierError
from querycache.ports.administration import Applied, Server
from querycache.ports.tiers import Pool
from querycache.tiers.redis.address import Address
from querycache.tiers.redis.clients import Patience, close, failure, open_client, open_sentinels
from querycache.tiers.redis.sentinel import primary

T = TypeVar("T")
Untyped = Any
"""A `redis.asyncio.Redis`, whose methods redis-py types in part only."""

_MEMORY, _POLICY = "maxmemory", "maxmemory-policy"
_UNITS = {"": 1, "b": 1, "k": 1000, "kb": 1024, "m": 10**6, "mb": 2**20, "g": 10**9, "gb": 2**30}


class _Open:
    """A client and how many blocks use it."""

    def __init__(self, client: Redis | RedisCluster) -> None:
        self.client = client
        self.users = 0


class RedisAdministration:
    """`ports.administration.Administration` of the Redis at an address."""

    def __init__(self, address: Address, limits: Patience) -> None:
        self._address = address
        self._limits = limits
        self._open: dict[asyncio.AbstractEventLoop, _Open] = {}
        self._closed = False

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[Redis | RedisCluster]:
        """See the port."""
        if self._closed:
            raise ClosedError("the cache is closed")
        for loop in [loop for loop in self._open if loop.is_closed()]:
            self._open.pop(loop, None)
        loop = asyncio.get_running_loop()
        mine = self._open.get(loop)
        if mine is None:
            mine = self._open[loop] = _Open(open_client(self._address, self._limits))
        mine.users += 1
        try:
            yield mine.client
        finally:
            mine.users -= 1
            if not mine.users:
                self._open.pop(loop, None)
                await close(mine.client)

    def pool(self) -> Pool:
        """See the port."""
        idle = used = 0
        for one in list(self._open.values()):
            here = _counted(one.client)
            idle, used = idle + here[0], used + here[1]
        return Pool(idle + used, idle, used, self._limits.connections)

    async def apply(self, maxmemory: str, policy: str) -> list[Applied]:
        """See the port."""

        async def do(client: Untyped, where: str) -> Applied:
            before = await _directives(client)
            await client.config_set(_MEMORY, str(_bytes(maxmemory)))
            await client.config_set(_POLICY, policy)
            after = await _directives(client)
            if after != {_MEMORY: str(_bytes(maxmemory)), _POLICY: policy}:
                raise TierError(f"Redis at {where} took CONFIG SET and has {after}")
            return Applied(where, before, after)

        done: list[Applied] = []
        for node in await self._nodes():
            try:
                done.append(await self._at(node, do))
            except TierError as error:
                told = f"; already set: {', '.join(one.where for one in done)}" if done else ""
                raise TierError(f"{error}{told}", remedy=error.remedy) from error
        return done

    async def servers(self) -> list[Server]:
        """See the port."""

        async def look(client: Untyped, where: str) -> Server:
            return _server(where, await client.info())

        nodes = await self._nodes()
        found = await asyncio.gather(
            *(self._at(node, look) for node in nodes), return_exceptions=True
        )
        servers = [one for one in found if isinstance(one, Server)]
        for one in found:
            if isinstance(one, BaseException) and not (servers and isinstance(one, TierError)):
                raise one
        return servers

    async def close(self) -> None:
        """See the port."""
        self._closed = True

    async def _nodes(self) -> list[Address]:
        """Each server that holds data, as an address of its own."""
        address = self._address
        if address.kind in {"single", "unix"}:
            return [address]
        try:
            found = await (self._of_cluster() if address.kind == "cluster" else self._watched())
        except TierError:
            raise
        except (RedisError, OSError) as error:
            raise failure(address.where, error) from error
        return [_alone(address, host, port) for host, port in found]

    async def _of_cluster(self) -> list[tuple[str, int]]:
        """What the first seed that answers knows; redis-py would need all to be up."""

        async def look(client: Untyped, where: str) -> list[tuple[str, int]]:
            told = await client.execute_command("CLUSTER NODES")
            if not told:
                raise TierError(f"Redis Cluster at {where} knows no nodes")
            return [_place(name) for name, node in told.items() if _counts(node["flags"])]

        error = TierError("Redis Cluster: no seeds")
        for host, port in self._address.nodes:
            try:
                return await self._at(_alone(self._address, host, port), look)
            except TierError as why:
                error = why
        raise error

    async def _watched(self) -> list[tuple[str, int]]:
        """What the Sentinels watch: the primary, then its replicas."""
        known: Any = open_sentinels(self._address, self._limits)
        try:
            first = await primary(self._address, known)
            return [first, *await known.discover_slaves(self._address.service)]
        finally:
            await close(known)

    async def _at(self, node: Address, work: Callable[[Untyped, str], Awaitable[T]]) -> T:
        client = open_client(node, replace(self._limits, connections=1))
        try:
            return await work(client, node.where)
        except NoPermissionError as error:
            raise TierError(
                f"Redis at {node.where} refuses (NOPERM): {error}",
                remedy="use a user who may: ACL SETUSER <user> +config|get +config|set +info",
            ) from error
        except ResponseError as error:
            raise _refused(node.where, error) from error
        except (RedisError, OSError) as error:
            raise failure(node.where, error) from error
        finally:
            await close(client)


def _alone(address: Address, host: str, port: int) -> Address:
    return replace(address, kind="single", nodes=((host, int(port)),))


def _place(name: str) -> tuple[str, int]:
    """Host and port in a line of CLUSTER NODES: `host:port@bus,hostname`."""
    host, _, port = name.partition("@")[0].rpartition(":")
    return host, int(port)


def _counts(flags: str) -> bool:
    """Whether a node takes part."""
    return not {"fail", "handshake", "noaddr"} & set(flags.split(","))


def _refused(where: str, error: ResponseError) -> TierError:
    if "unknown command" in str(error).lower():
        return TierError(
            f"Redis at {where} knows no CONFIG command: {error}",
            remedy="it is a managed service, or the command was renamed: set maxmemory and"
            " maxmemory-policy where that service is configured",
        )
    return failure(where, error)


async def _directives(client: Untyped) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in (_MEMORY, _POLICY):
        said = await client.config_get(name)
        found |= {str_if_bytes(key): str_if_bytes(value) for key, value in said.items()}
    return found


def _bytes(text: str) -> int:
    """The bytes that a size in redis.conf's notation means."""
    digits = text.rstrip("bBkKmMgG")
    return int(digits) * _UNITS[text[len(digits) :].lower()]


def _counted(client: Redis | RedisCluster) -> tuple[int, int]:
    """How many of its connections are idle, and in use."""
    if isinstance(client, Redis):
        pool: Any = client.connection_pool
        (idle, _), (used, _) = pool.get_connection_count()
        return idle, used
    nodes: list[Any] = client.get_nodes()
    idle = sum(len(node._free) for node in nodes)  # noqa: SLF001 -- redis-py tells it nowhere else
    return idle, sum(len(node._connections) for node in nodes) - idle  # noqa: SLF001 -- likewise


def _server(where: str, info: Mapping[str, Any]) -> Server:
    return Server(
        where=where,
        role=str(info.get("role", "")),
        version=str(info.get("valkey_version") or info.get("redis_version", "")),
        mode=str(info.get("redis_mode") or info.get("server_mode", "")),
        uptime_s=int(info.get("uptime_in_seconds", 0)),
        clients=int(info.get("connected_clients", 0)),
        memory_bytes=int(info.get("used_memory", 0)),
        memory_human=str(info.get("used_memory_human", "")),
        memory_peak_bytes=int(info.get("used_memory_peak", 0)),
        memory_peak_human=str(info.get("used_memory_peak_human", "")),
        max_memory_bytes=int(info.get("maxmemory", 0)),
        max_memory_policy=str(info.get("maxmemory_policy", "")),
        fragmentation=float(info.get("mem_fragmentation_ratio", 0.0)),
        keys_evicted=int(info.get("evicted_keys", 0)),
        keys_expired=int(info.get("expired_keys", 0)),
    )
