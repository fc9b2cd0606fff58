"""F5: a hit in the embedded L2 through the public call, beside diskcache: one, many, under writes.

    python bench/l2_hit.py [--quick] [--json]

L1 is emptied before each round, so every get goes to the shared store, is opened, checked against
its checksum and the generations, decoded, and put into L1. diskcache runs as it comes, with its
own get; both stores hold the same values on the same disk.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from statistics import median
from typing import Protocol, cast

import diskcache  # pyright: ignore[reportMissingTypeStubs]
import kit

from querycache import get_cache_service
from querycache.doors.python.cache import CacheService

THIS = Path(__file__).resolve()
KEYS = [f"answer:{number}" for number in range(400)]
FEW = 50  # read in a round, which is then shorter than a slice of time on a busy machine
VECTORS = [f"vector:{number}" for number in range(100)]
VECTOR_BYTES = 6 * 1024
WRITES_A_SECOND = 200
MOST_OF_GET, MOST_OF_GETS, MOST_OF_P99 = 0.8, 0.3, 1.0
_RANDOM = random.Random(5)  # noqa: S311 -- the same values in every run


class Store(Protocol):
    """diskcache's Cache, which has no types."""

    def get(self, key: str) -> object: ...
    def set(self, key: str, value: object, expire: float | None = None) -> bool: ...
    def close(self) -> None: ...


def store_at(folder: Path) -> Store:
    return cast("Store", diskcache.Cache(str(folder)))


def text(size: int) -> str:
    """Words as a program has them; about as compressible."""
    words: list[str] = []
    while sum(map(len, words)) + len(words) < size:
        words.append(_RANDOM.choice(["return", "self", "value", "def", "if", "None", "import"]))
        words.append(f"{_RANDOM.getrandbits(24):x}")
    return " ".join(words)[:size]


# --- what is read ------------------------------------------------------------------------------


def ours_one(service: CacheService, keys: Sequence[str]) -> kit.Contestant:
    async def run() -> None:
        service.l1_cache.clear()
        for key in keys:
            await service.get(key)

    return run


def ours_batch(service: CacheService) -> kit.Contestant:
    async def run() -> None:
        service.l1_cache.clear()
        found = await service.get_batch(VECTORS)
        assert len(found) == len(VECTORS)

    return run


def theirs(store: Store, keys: Sequence[str]) -> kit.Contestant:
    async def run() -> None:
        for key in keys:
            store.get(key)

    return run


# --- another process that writes ---------------------------------------------------------------


@asynccontextmanager
async def writing(who: str, folder: Path) -> AsyncGenerator[None]:
    """A process that writes into the store of `who`, at a steady rate, during the block."""
    command = [sys.executable, str(THIS), "--writer", who, str(folder)]
    with subprocess.Popen(  # noqa: S603, ASYNC220 -- this very file
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"writing\n"
            yield
        finally:
            process.stdin.close()
            written = process.stdout.read()
    assert int(written) > 0, "the writer wrote nothing"


async def writer(who: str, folder: Path) -> None:
    value = text(1024)
    if who == "ours":
        async with kit.app_at(folder) as app:
            await _keep_writing(lambda key: app.remember.set(key, value, 3600.0))
        return
    store = store_at(folder)

    async def put(key: str) -> bool:
        return store.set(key, value, expire=3600.0)

    await _keep_writing(put)
    store.close()


async def _keep_writing(put: Callable[[str], Awaitable[bool]]) -> None:
    ended = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    began = time.monotonic()
    for number in count():
        assert await put(f"written:{number % 500}")
        if not number:
            print("writing", flush=True)
        ahead = began + number / WRITES_A_SECOND - time.monotonic()
        done, _ = await asyncio.wait([ended], timeout=max(0.0, ahead))
        if done:
            print(number + 1)
            return


async def each_ms(get: Callable[[str], Awaitable[object]], empty: Callable[[], object]) -> float:
    """The 99th percentile of single gets."""
    took: list[float] = []
    for _ in range(5):
        empty()
        for key in KEYS:
            began = time.perf_counter()
            await get(key)
            took.append(time.perf_counter() - began)
    return 1e3 * kit.percentile(took, 0.99)


async def under_writes(
    service: CacheService, store: Store, home: Path, folder: Path, rounds: int
) -> tuple[list[float], list[float]]:
    """p99 of single gets in ms, round by round: ours, diskcache's."""

    async def get(key: str) -> object:
        return store.get(key)

    both: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        async with writing("ours", home):
            both[0].append(await each_ms(service.get, service.l1_cache.clear))
        async with writing("diskcache", folder):
            both[1].append(await each_ms(get, lambda: None))
    return both


# --- the figures -------------------------------------------------------------------------------


async def measure(options: kit.Options) -> Sequence[kit.Row]:
    here = Path.cwd()
    home, folder = here / "home", here / "diskcache"
    service, store = await get_cache_service(), store_at(folder)
    values: dict[str, object] = {key: text(1024) for key in KEYS}
    values |= {key: _RANDOM.randbytes(VECTOR_BYTES) for key in VECTORS}
    assert await service.set_batch(values, ttl=3600) == len(values)
    for key, value in values.items():
        store.set(key, value, expire=3600)
        assert store.get(key) == value
    service.l1_cache.clear()
    assert await service.get_batch(list(values)) == values
    before = service.get_tier_stats()["l2_stats"]
    few = KEYS[:FEW]
    one = await kit.in_turn(
        {"ours": ours_one(service, few), "diskcache": theirs(store, few)}, 7 * options.rounds
    )
    many = await kit.in_turn(
        {"ours": ours_batch(service), "diskcache": theirs(store, VECTORS)}, 7 * options.rounds
    )
    assert service.get_tier_stats()["l2_stats"] != before, "L2 was not asked"
    kit.say("F5: reads while another process writes")
    p99 = await under_writes(service, store, home, folder, options.rounds)
    store.close()
    await service.shutdown()
    hit = kit.ratio(one["ours"], one["diskcache"])
    batch = kit.ratio(many["ours"], many["diskcache"])
    worst = kit.ratio(*p99)
    us = {who: 1e6 * median(times) / FEW for who, times in one.items()}
    ms = {who: 1e3 * median(times) for who, times in many.items()}
    return [
        kit.Row(
            "F5",
            "embedded L2, hit of 1 KB by `await service.get(key)`, beside diskcache's get",
            f"≤ {MOST_OF_GET} x",
            f"{hit:.2f} x",
            hit <= MOST_OF_GET,
            f"ours {us['ours']:.0f} µs, diskcache {us['diskcache']:.0f} µs",
        ),
        kit.Row(
            "F5",
            "batch of 100 x 6 KB by `service.get_batch`, beside diskcache's 100 gets",
            f"≤ {MOST_OF_GETS} x",
            f"{batch:.2f} x",
            batch <= MOST_OF_GETS,
            f"ours {ms['ours']:.2f} ms, diskcache {ms['diskcache']:.2f} ms",
        ),
        kit.Row(
            "F5",
            f"p99 of a hit while another process writes {WRITES_A_SECOND} a second",
            "≤ diskcache's",
            f"{worst:.2f} x",
            worst <= MOST_OF_P99,
            f"ours {median(p99[0]):.2f} ms, diskcache {median(p99[1]):.2f} ms",
        ),
    ]


def main() -> None:
    if sys.argv[1:2] == ["--writer"]:
        asyncio.run(writer(sys.argv[2], Path(sys.argv[3])))
        return
    kit.run(__doc__, measure)


if __name__ == "__main__":
    main()
