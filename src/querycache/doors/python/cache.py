"""The cache service: a caller's own keys over both tiers, under the guide's names.

Example:
    >>> import asyncio
    >>> from querycache import get_cache_service
    >>> async def main():
    ...     service = await get_cache_service()
    ...     await service.set("greeting", "hello", ttl=60)
    ...     return await service.get("greeting")
    >>> asyncio.run(main())
    'hello'
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from querycache.assembly import App
from querycache.doors.python.current import current, let_go
from querycache.errors import NotAvailableError
from querycache.ports.tiers import L1
from querycache.usecases.remember import Counted, Remember
from querycache.usecases.show_status import Health, TierStats


class PoolInfo(msgspec.Struct, frozen=True):
    """How the connections to Redis are; all zero without Redis, and `note` says so."""

    connection_pool_stats: dict[str, int]
    note: str


class RedisManager:
    """What the service knows of Redis."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def get_health_info(self) -> PoolInfo:
        """The connections: created, available, in use, and the most that there may be. Those of
        the cache itself and those of `get_redis_client`, of all event loops.
        """
        stats = (await self._app.status.health()).connection_pool_stats
        admin = self._app.redis_admin
        if admin is None:
            return PoolInfo(
                dict.fromkeys(stats, 0),
                "no Redis is configured; the shared tier is embedded or off",
            )
        pool = admin.pool()
        available = stats["available_connections"] + pool.available
        in_use = stats["in_use_connections"] + pool.in_use
        stats = {
            "created_connections": available + in_use,
            "available_connections": available,
            "in_use_connections": in_use,
            "max_connections": pool.most,
        }
        return PoolInfo(stats, "")


class CacheService(Remember):
    """Both tiers, for keys of your own. Make it with `get_cache_service()`.

    Works from any event loop and thread; every handle shares L1, settings and counts. Values come
    back equal and of the same type.
    """

    def __init__(self, app: App) -> None:
        super().__init__(app.core, app.namer, app.policies, app.config.core.batch_size)
        app.remember = self
        self.redis_manager = RedisManager(app)
        self._app = app
        self._base = self.counted()
        self._since = app.clock.wall()

    @property
    def app(self) -> App:
        """The parts that this service is made of."""
        return self._app

    # --- life ----------------------------------------------------------------------------------

    async def initialize(self) -> None:
        """Starts the background work in this loop, if none runs. `get_cache_service` has done
        it.
        """
        self._app.keep_house_here()

    async def shutdown(self) -> None:
        """Ends the service; the next `get_cache_service()` makes a new one."""
        let_go(self._app)
        await self._app.close()

    # --- the guide's names ---------------------------------------------------------------------

    @property
    def l1_cache(self) -> L1:
        """L1 itself: `l1_cache.clear()` empties it, so that L2 is asked again."""
        return self._app.l1

    async def clear(self) -> int:
        """Makes every entry unreachable, in every process; how many were dropped."""
        return (await self._app.clear()).entries

    async def get_health(self) -> Health:
        """How the cache is, looked at now."""
        return await self._app.status.health()

    def get_stats(self) -> Counted:
        """What this process did since the start, or since `reset_stats`."""
        now, base = self.counted(), self._base
        return Counted(
            hit_count=now.hit_count - base.hit_count,
            miss_count=now.miss_count - base.miss_count,
            set_count=now.set_count - base.set_count,
            delete_count=now.delete_count - base.delete_count,
            error_count=now.error_count - base.error_count,
            last_reset=self._since,
        )

    def reset_stats(self) -> None:
        """Starts `get_stats` from zero."""
        self._base, self._since = self.counted(), self._app.clock.wall()

    def get_tier_stats(self) -> dict[str, object]:
        """L1 and L2 apart: `l1_stats`, `l2_stats` (objects with `hit_rate`), `l1_info` (a
        dict).
        """
        l1, l2 = self._app.status.tiers([self._app.status.snapshot()])
        return {
            "l1_stats": l1,
            "l1_info": self._l1_info(l1),
            "l2_stats": l2,
            "l2_enabled": l2.enabled,
            "dirty_keys_count": self._app.status.pending().dirty,
            "write_strategy": self._app.config.core.write_strategy,
            "cache_level": self._app.config.core.level,
        }

    async def check_cache_coherency(self) -> dict[str, object]:
        """Compares the tiers, all that L1 holds, and heals what differs: it leaves L1, so that the
        next read asks L2.

        Keys: coherent, l1_l2_consistent, stale_entries, mismatched_keys (names in L2), and the
        other fields of `usecases.check_coherency.Coherency`.
        """
        checked = await self._app.check_coherency()
        found: dict[str, object] = msgspec.structs.asdict(checked)
        found["mismatched_keys"] = list(checked.mismatched_keys)
        if self._app.config.l2_backend == "none":
            found["note"] = "no L2: there is nothing to compare with"
        return found

    async def cleanup_expired(self) -> int:
        """Drops what has expired from both tiers; how many entries."""
        return await self._app.cleanup_expired()

    async def _flush_dirty_keys(self) -> int:
        """Writes what waits for L2 under WRITE_BACK; how many went there."""
        return await self._core.flush()

    @asynccontextmanager
    async def get_redis_client(self) -> AsyncGenerator[Any]:
        """A redis-py asyncio client of the Redis that is L2; its keys and values are bytes. Do not
        close it: the block does. Raises `NotAvailableError` where L2 is not Redis.
        """
        admin = self._app.redis_admin
        if admin is None:
            raise NotAvailableError(
                "there is no Redis: the shared tier is "
                + ("off" if self._app.config.l2_backend == "none" else "the embedded store"),
                remedy="set REDIS_HOST or REDIS_URL and CACHE_L2_BACKEND=auto to share a Redis;"
                " `querycache keys` lists the entries of any store",
            )
        async with admin.client() as client:
            yield client

    def _l1_info(self, stats: TierStats) -> dict[str, object]:
        info = self._app.l1.info()
        return {
            "size": info.size,
            "max_size": info.max_size,
            "memory_usage_bytes": info.bytes,
            "memory_usage_mb": info.bytes / 1024 / 1024,
            "max_memory_mb": self._app.config.l1.max_memory_mb,
            "hit_rate": stats.hit_rate,
            "miss_rate": stats.miss_rate,
            "total_operations": stats.total_operations,
            "evictions": info.evictions,
            "policy": info.policy,
        }


async def get_cache_service() -> CacheService:
    """The service of this process: the same object in every loop, until `shutdown`.

    Raises `ConfigError`.
    """
    app = current()
    service = app.remember if isinstance(app.remember, CacheService) else CacheService(app)
    await service.initialize()
    return service
