"""F2, F3, F4: a hit in L2 on Redis, alone, fifty at once, and as a batch of embeddings.

    python bench/l2_redis.py [--quick] [--json]

A redis-server of our own, reached by its unix socket. Ours twice: the tier and the codec (the
entry is read under its guard, opened, checked against its checksum and its name, and decoded); and
the public call, with L1 emptied before each round, which adds the counters, the events, and the
way into L1. Beside them redis-py's asyncio client with the hiredis parser does a bare GET or MGET
of the very same stored bytes, and makes nothing of them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import kit
import numpy as np
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from querycache.assembly import App
from querycache.cache.catalogue.embeddings import EmbeddingKey, embeddings
from querycache.keys import Scope
from querycache.values import Kind

KEYS = [f"answer:{number}" for number in range(400)]
FEW = 50
DIMENSIONS = 1536
VECTORS = 100
LAYERS = {"tier": "decoded and verified", "service": "through the whole service"}
MOST_ALONE, MOST_AT_ONCE, MOST_BATCH = 0.8, 0.2, 1.2
_RANDOM = random.Random(5)  # noqa: S311 -- the same values in every run


def client_at(path: str) -> redis.asyncio.Redis:
    return redis.asyncio.Redis.from_url(
        f"unix://{path}", retry=Retry(NoBackoff(), 0), socket_timeout=5.0, max_connections=FEW
    )


def text(size: int) -> str:
    words = ("return", "self", "value", "def", "if", "None", "import")
    return " ".join(
        f"{_RANDOM.choice(words)} {_RANDOM.getrandbits(24):x}" for _ in range(size // 10)
    )[:size]


async def keyed(app: App) -> list[str]:
    """Names of values of 1 KB, stored."""
    values: dict[str, object] = {key: text(1024) for key in KEYS}
    assert await app.remember.set_batch(values, ttl=3600) == len(values)
    app.l1.clear()
    assert await app.remember.get_batch(KEYS) == values
    return [app.remember.name(key) for key in KEYS]


class Ours:
    """What is compared with redis-py, over one App."""

    def __init__(self, app: App, client: redis.asyncio.Redis) -> None:
        self.app = app
        self.client = client
        self.names = [app.remember.name(key) for key in KEYS[:FEW]]
        self.shape = app.policies[Kind.OTHER].shape
        self.codec = app.core.examiner._parts.codec  # noqa: SLF001 -- the one that the core uses

    async def entry(self, name: str) -> object:
        """An entry of L2, decoded and verified."""
        (read,) = await self.app.core.l2.read([name])
        assert read.data is not None
        return self.codec.decode(self.codec.open(name, read.data, self.shape).body, self.shape)

    async def alone(self, rounds: int) -> kit.Rounds:
        get = self.app.remember.get

        async def tier() -> None:
            for name in self.names:
                await self.entry(name)

        async def service() -> None:
            self.app.l1.clear()
            for key in KEYS[:FEW]:
                await get(key)

        async def theirs() -> None:
            for name in self.names:
                await self.client.get(name)

        return await kit.in_turn({"tier": tier, "service": service, "redis-py": theirs}, rounds)

    async def at_once(self, rounds: int) -> kit.Rounds:
        get = self.app.remember.get

        async def tier() -> None:
            await asyncio.gather(*(self.entry(name) for name in self.names))

        async def service() -> None:
            self.app.l1.clear()
            await asyncio.gather(*(get(key) for key in KEYS[:FEW]))

        async def theirs() -> None:
            await asyncio.gather(*(self.client.get(name) for name in self.names))

        return await kit.in_turn({"tier": tier, "service": service, "redis-py": theirs}, rounds)

    async def batch(self, rounds: int) -> kit.Rounds:
        app, codec = self.app, self.codec
        cache = embeddings(app.core, app.namer, app.policies[Kind.EMBEDDING], Scope())
        keys = [EmbeddingKey("a model", "document", f"text {number}") for number in range(VECTORS)]
        rows = np.random.default_rng(5).standard_normal((VECTORS, DIMENSIONS), dtype=np.float32)
        vectors = dict(zip(keys, rows, strict=True))

        async def nothing(missing: list[EmbeddingKey]) -> dict[EmbeddingKey, np.ndarray]:
            raise AssertionError(f"{len(missing)} vectors are missing")

        async def load(missing: list[EmbeddingKey]) -> dict[EmbeddingKey, np.ndarray]:
            return {key: vectors[key] for key in missing}

        await cache.answer_many(keys, load)
        app.l1.clear()
        found = await cache.answer_many(keys, nothing)
        assert all(np.array_equal(found[key].value, vectors[key]) for key in keys)
        assert {found[key].tier for key in keys} == {"l2"}
        names, shape = [cache.name(key) for key in keys], cache.policy.shape

        async def tier() -> None:
            reads = await app.core.l2.read(names, fenced=False)
            for name, read in zip(names, reads, strict=True):
                assert read.data is not None
                codec.decode(codec.open(name, read.data, shape).body, shape)

        async def service() -> None:
            app.l1.clear()
            await cache.answer_many(keys, nothing)

        async def theirs() -> None:
            await self.client.mget(names)

        return await kit.in_turn({"tier": tier, "service": service, "redis-py": theirs}, rounds)


async def measure(options: kit.Options) -> Sequence[kit.Row]:
    with kit.scratch() as folder, kit.redis_at(folder) as (path, _):
        client = client_at(path)
        home = Path.cwd() / "home"
        async with kit.app_at(home, REDIS_URL=f"unix://{path}") as app:
            await keyed(app)
            assert (await app.core.l2.info()).backend == "redis"
            rounds = 5 * options.rounds
            ours = Ours(app, client)
            one, fifty = await ours.alone(rounds), await ours.at_once(rounds)
            many = await ours.batch(rounds)
        await client.aclose()
    rows = (
        ("F2", "L2 hit on Redis by unix socket, 1 KB, one after another", MOST_ALONE, one, FEW),
        ("F3", f"the same, {FEW} at once, each", MOST_AT_ONCE, fifty, FEW),
        ("F4", f"batch of {VECTORS} embeddings x {DIMENSIONS} float32", MOST_BATCH, many, 1),
    )
    return [
        kit.Row(
            figure,
            f"{what}, {LAYERS[layer]}",
            f"≤ {most} x redis-py's bare {'MGET' if figure == 'F4' else 'GET'}",
            f"{(times := kit.ratio(taken[layer], taken['redis-py'])):.2f} x",
            times <= most,
            ", ".join(
                f"{who} {1e6 * median(spent) / each:.0f} µs" for who, spent in taken.items()
            ),
        )
        for figure, what, most, taken, each in rows
        for layer in LAYERS
    ]


if __name__ == "__main__":
    kit.run(__doc__, measure)
