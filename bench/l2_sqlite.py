"""F5: hits of the embedded L2, against diskcache.

    python bench/l2_sqlite.py [--quick] [--json] [--bare]

A hit is a read of the tier plus the codec's opening and decoding (`--bare`: the tier alone); a
diskcache hit is its `get`. Under load another process writes 6 KB entries to the same store,
some 500 a second for each of the two.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import diskcache  # pyright: ignore[reportMissingTypeStubs]
import numpy as np
from kit import Options, Row, in_turn, percentile, ratio, run, say, scratch

from querycache.clock import SystemClock
from querycache.codec.pipeline import Pipeline
from querycache.ports.codec import ANY, Form, Record, Shape
from querycache.ports.tiers import Read, Write
from querycache.tiers.sqlite import SqliteTier

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

Decode = Callable[[str, bytes], object]

CLOCK = SystemClock()
CODEC = Pipeline()
VECTOR = Shape(form=Form.VECTOR, compress=False)
MAX_BYTES = 1 << 30
ENTRIES = 4000
BATCH = 100
DIMENSIONS = 1536
WRITES_A_SECOND = 500


def opened(folder: Path) -> SqliteTier:
    return SqliteTier(str(folder / "ours"), clock=CLOCK, max_bytes=MAX_BYTES)


class Peer(Protocol):
    """What is used of `diskcache.Cache`, which has no annotations."""

    def get(self, key: str) -> bytes | None: ...

    def set(self, key: str, value: bytes) -> bool: ...

    def close(self) -> None: ...


def peer(folder: Path) -> Peer:
    return cast("Peer", diskcache.Cache(str(folder / "diskcache"), size_limit=MAX_BYTES))


def name(kind: str, number: int) -> str:
    return f"codebase_rag:{kind}:_:{number:032x}"


def sealed(key: str, value: object, shape: Shape) -> bytes:
    now = CLOCK.wall()
    return CODEC.seal(Record(key, CODEC.encode(value, shape), now, now + 900, now + 3600), shape)


def decoded(shape: Shape, key: str, data: bytes) -> object:
    return CODEC.decode(CODEC.open(key, data, shape).body, shape)


def bare(shape: Shape, key: str, data: bytes) -> object:
    del shape, key
    return data


class Stores(NamedTuple):
    tier: SqliteTier
    cache: Peer


async def fill(stores: Stores) -> None:
    noise = random.Random(0)  # noqa: S311 -- filling
    values = np.random.default_rng(0)
    expires = CLOCK.wall() + 3600
    for start in range(0, ENTRIES, BATCH):
        writes: list[Write] = []
        for number in range(start, start + BATCH):
            key, data = name("file", number), noise.randbytes(1024)
            writes.append(Write(key, sealed(key, data, ANY), expires))
            stores.cache.set(key, data)
            key = name("embedding", number)
            vector = values.standard_normal(DIMENSIONS, dtype=np.float32)
            writes.append(Write(key, sealed(key, vector, VECTOR), expires, tell=False))
            stores.cache.set(key, vector.tobytes())
        await stores.tier.write(writes)


def found(read: Read) -> bytes:
    assert read.data is not None
    return read.data


async def our_gets(stores: Stores, keys: Sequence[str], decode: Decode) -> None:
    for key in keys:
        decode(key, found((await stores.tier.read([key]))[0]))


async def their_gets(stores: Stores, keys: Sequence[str]) -> None:
    for key in keys:
        assert stores.cache.get(key)


async def our_batches(stores: Stores, batches: Sequence[Sequence[str]], decode: Decode) -> None:
    for keys in batches:
        for key, read in zip(keys, await stores.tier.read(keys), strict=True):
            decode(key, found(read))


async def their_batches(stores: Stores, batches: Sequence[Sequence[str]]) -> None:
    for keys in batches:
        await their_gets(stores, keys)


async def each(
    get: Callable[[Sequence[str]], Awaitable[None]], keys: Sequence[str]
) -> list[float]:
    """Seconds that each hit took."""
    taken: list[float] = []
    for key in keys:
        began = time.perf_counter()
        await get([key])
        taken.append(time.perf_counter() - began)
        await asyncio.sleep(0)
    return taken


@asynccontextmanager
async def writing(folder: Path, which: str) -> AsyncGenerator[None]:
    """Another process writes to one of the two stores."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--writer", which, str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    await process.stdout.readline()
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def write_for_ever(which: str, folder: Path) -> None:
    data = bytes(6144)
    stores = Stores(opened(folder), peer(folder))
    for number in range(1_000_000):
        key = name("writer", number % ENTRIES)
        began = time.perf_counter()
        if which == "ours":
            await stores.tier.write([Write(key, data, CLOCK.wall() + 3600)])
        else:
            stores.cache.set(key, data)
        if number == 0:
            print("writing", flush=True)
        await asyncio.sleep(max(0.0, 1 / WRITES_A_SECOND - (time.perf_counter() - began)))


async def under_load(
    stores: Stores, folder: Path, keys: Sequence[str], decode: Decode, rounds: int
) -> tuple[list[float], list[float]]:
    """The p99 of each round in seconds, ours and theirs."""
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        async with writing(folder, "ours"):
            get = partial(our_gets, stores, decode=decode)
            ours.append(percentile(await each(get, keys), 0.99))
        async with writing(folder, "diskcache"):
            theirs.append(percentile(await each(partial(their_gets, stores), keys), 0.99))
    return ours, theirs


async def measure(options: Options) -> list[Row]:
    opening = bare if "--bare" in ARGUMENTS else decoded
    small, large = partial(opening, ANY), partial(opening, VECTOR)
    pick = random.Random(1)  # noqa: S311 -- a sample
    hits = 1000 if options.quick else 4000
    numbers = [pick.randrange(ENTRIES) for _ in range(hits)]
    keys = [name("file", number) for number in numbers]
    batches = [
        [name("embedding", number) for number in pick.sample(range(ENTRIES), BATCH)]
        for _ in range(10 if options.quick else 40)
    ]
    with scratch() as folder:
        stores = Stores(opened(folder), peer(folder))
        say("filling both stores")
        await fill(stores)
        gets = await in_turn(
            {
                "ours": partial(our_gets, stores, keys, small),
                "diskcache": partial(their_gets, stores, keys),
            },
            options.rounds,
        )
        many = await in_turn(
            {
                "ours": partial(our_batches, stores, batches, large),
                "diskcache": partial(their_batches, stores, batches),
            },
            options.rounds,
        )
        say("reading while another process writes")
        ours, theirs = await under_load(stores, folder, keys, small, options.rounds)
        await stores.tier.close()
        stores.cache.close()
    how = "tier alone" if opening is bare else "decoded and verified"
    one, batch, tail = (
        ratio(gets["ours"], gets["diskcache"]),
        ratio(many["ours"], many["diskcache"]),
        ratio(ours, theirs),
    )

    def us(values: Sequence[float], count: int) -> str:
        return f"{median(values) / count * 1e6:.1f} µs"

    return [
        Row(
            "F5",
            f"embedded L2: hit of 1 KB, {how}",
            "≤ 0.8 x diskcache",
            f"{one:.2f} x",
            one <= 0.8,  # noqa: PLR2004 -- the goal
            f"{us(gets['ours'], hits)} against {us(gets['diskcache'], hits)}",
        ),
        Row(
            "F5",
            f"embedded L2: batch of {BATCH} x 6 KB, {how}",
            "≤ 0.3 x its 100 gets",
            f"{batch:.2f} x",
            batch <= 0.3,  # noqa: PLR2004 -- the goal
            f"{us(many['ours'], len(batches))} against {us(many['diskcache'], len(batches))}",
        ),
        Row(
            "F5",
            f"embedded L2: p99 of a hit while another process writes, {how}",
            "≤ 1 x diskcache",
            f"{tail:.2f} x",
            tail <= 1,
            f"{us(ours, 1)} against {us(theirs, 1)}",
        ),
    ]


ARGUMENTS = sys.argv[1:]

if __name__ == "__main__":
    if ARGUMENTS[:1] == ["--writer"]:
        asyncio.run(write_for_ever(ARGUMENTS[1], Path(ARGUMENTS[2])))
    else:
        sys.argv = [word for word in sys.argv if word != "--bare"]
        run(__doc__, measure)
