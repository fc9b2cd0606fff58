"""What an entry and a client cost a Redis server in memory.

    python bench/redis_memory.py

Entries of three kinds go to a server of our own by the public calls; each row is the growth of the
server's `used_memory` for one entry, names, counters and the server's own structures included.
Then clients connect as a process of ours does, tracked, and idle.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable

import kit
import numpy as np
import redis.asyncio

from querycache.assembly import App
from querycache.cache.catalogue.embeddings import EmbeddingKey, embeddings
from querycache.keys import Scope
from querycache.values import Kind

ENTRIES = 20_000
CLIENTS = 100
PART = 500

Store = Callable[[App], Awaitable[object]]


def vectors(dimensions: int) -> Store:
    async def store(app: App) -> None:
        cache = embeddings(app.core, app.namer, app.policies[Kind.EMBEDDING], Scope())
        rows = np.random.default_rng(5).standard_normal((PART, dimensions), dtype=np.float32)

        async def load(missing: list[EmbeddingKey]) -> dict[EmbeddingKey, np.ndarray]:
            return dict(zip(missing, rows, strict=True))

        for start in range(0, ENTRIES, PART):
            keys = [EmbeddingKey("m", "document", f"{start + n}") for n in range(PART)]
            await cache.answer_many(keys, load, to_l1=False)

    return store


async def raw(app: App) -> None:
    value = np.random.default_rng(5).bytes(512).hex()
    for start in range(0, ENTRIES, PART):
        await app.remember.set_batch({f"answer:{start + n}": value for n in range(PART)}, ttl=3600)


async def memory(url: str) -> int:
    async with contextlib.aclosing(redis.asyncio.Redis.from_url(url)) as client:
        return int((await client.info("memory"))["used_memory"])


async def entries(what: str, store: Store) -> None:
    with kit.scratch() as folder, kit.redis_at(folder) as (path, _):
        url = f"unix://{path}"
        async with kit.app_at(folder / "home", REDIS_URL=url) as app:
            await app.remember.get("connected")
            before = await memory(url)
            await store(app)
            print(f"| {what} | {(await memory(url) - before) / ENTRIES:,.0f} |", flush=True)


async def clients() -> None:
    with kit.scratch() as folder, kit.redis_at(folder) as (path, _):
        url = f"unix://{path}"
        before = await memory(url)
        async with contextlib.AsyncExitStack() as stack:
            for number in range(CLIENTS):
                home = folder / f"home{number}"
                app = await stack.enter_async_context(kit.app_at(home, REDIS_URL=url))
                await app.remember.get("connected")
            await asyncio.sleep(1.0)
            grown = (await memory(url) - before) / CLIENTS
        print(f"| a connected process | {grown:,.0f} |")


async def main() -> None:
    print("| what | bytes of used_memory |\n|---|---|")
    for what, store in (
        ("embedding, 256 x float32", vectors(256)),
        ("embedding, 1,536 x float32", vectors(1536)),
        ("raw key, 1 KB of text", raw),
    ):
        await entries(what, store)
    await clients()


if __name__ == "__main__":
    if sys.argv[1:]:
        print(__doc__)
    else:
        asyncio.run(main())
