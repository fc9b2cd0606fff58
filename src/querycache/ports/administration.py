"""The administration of a Redis: what is asked of and done to the servers themselves."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec

from querycache.ports.tiers import Pool


class Applied(msgspec.Struct, frozen=True):
    """What `apply` changed on one server, by the names of its directives: `maxmemory` (bytes) and
    `maxmemory-policy`.
    """

    where: str
    before: Mapping[str, str]
    after: Mapping[str, str]


class Server(msgspec.Struct, frozen=True):
    """One server, from its INFO. `max_memory_bytes` is 0 where it has no bound."""

    where: str
    role: str
    version: str
    mode: str
    uptime_s: int
    clients: int
    memory_bytes: int
    memory_human: str
    memory_peak_bytes: int
    memory_peak_human: str
    max_memory_bytes: int
    max_memory_policy: str
    fragmentation: float
    keys_evicted: int
    keys_expired: int


class Administration(Protocol):
    """Every method but `pool` raises `TierError`, with the server's `host:port` and the cause."""

    def client(self) -> AbstractAsyncContextManager[Any]:
        """A redis-py asyncio client (`redis.asyncio.Redis`, of a cluster `RedisCluster`) that
        answers in bytes. Its connections are closed when the last block of the event loop ends.
        """
        ...

    def pool(self) -> Pool:
        """The connections that are open for administration; `most` is REDIS_MAX_CONNECTIONS."""
        ...

    async def apply(self, maxmemory: str, policy: str) -> list[Applied]:
        """Sets the memory and the eviction policy of each server, replicas too, and reads them
        back.
        """
        ...

    async def servers(self) -> list[Server]:
        """Each server, replicas too, as it is now. Those that don't answer are left out, unless
        none does.
        """
        ...

    async def close(self) -> None:
        """Refuses further blocks, with `ClosedError`; those that are open go on to their end."""
        ...
