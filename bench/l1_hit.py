"""F1: what a hit in L1 costs through the public call, beside the floor and two peers.

    python bench/l1_hit.py [--quick] [--json]

The floor is the `await` of a coroutine that looks into a dict and checks an expiry.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import median
from typing import Protocol, cast

import kit
from aiocache import SimpleMemoryCache  # pyright: ignore[reportMissingTypeStubs]
from cashews import Cache

from querycache import get_cache_service
from querycache.cache import two_tier

KEYS = [f"question:{number}" for number in range(200)]
VALUES = {
    "short str": "hello, world",
    "1 KB str": (two_tier.__doc__ or "").encode()[:1024].decode().ljust(1024),
}
PASSES = 5  # a round is shorter than a slice of time on a busy machine
ROUNDS = 61
GETS = PASSES * len(KEYS)
MOST_OF_FLOOR, LEAST_OF_CASHEWS, LEAST_OF_AIOCACHE = 2.5, 8.0, 30.0

Get = Callable[[str], Awaitable[object]]


class Peer(Protocol):
    """aiocache's cache, which has no types."""

    def set(self, key: str, value: object, ttl: float) -> Awaitable[object]: ...
    def get(self, key: str) -> Awaitable[object]: ...


def floor(value: object) -> Get:
    held = {key: (value, time.monotonic() + 3600.0) for key in KEYS}
    look, now = held.get, time.monotonic

    async def get(key: str) -> object:
        entry = look(key)
        if entry is None or now() >= entry[1]:
            return None
        return entry[0]

    return get


def reads(get: Get) -> kit.Contestant:
    async def run() -> None:
        for _ in range(PASSES):
            for key in KEYS:
                await get(key)

    return run


async def getters(value: object) -> dict[str, Get]:
    """Each filled with `value`, and checked."""
    service = await get_cache_service()
    cashews, aiocache = Cache(), cast("Peer", SimpleMemoryCache())
    cashews.setup("mem://", size=10_000)
    for key in KEYS:
        assert await service.set(key, value, ttl=3600)
        await cashews.set(key, value, expire=3600)
        await aiocache.set(key, value, ttl=3600)
    found: dict[str, Get] = {
        "floor": floor(value),
        "ours": service.get,
        "cashews": cashews.get,
        "aiocache": aiocache.get,
    }
    for get in found.values():
        assert await get(KEYS[7]) == value
    return found


async def measure(options: kit.Options) -> Sequence[kit.Row]:
    service = await get_cache_service()
    assert service.get_tier_stats()["l2_enabled"]
    rounds = ROUNDS // 4 if options.quick else ROUNDS
    of: dict[str, list[float]] = {"floor": [], "cashews": [], "aiocache": []}
    spent: list[str] = []
    for name, value in VALUES.items():
        gets = await getters(value)
        before = service.get_stats().hit_count
        contestants = {each: reads(get) for each, get in gets.items()}
        taken = await kit.in_turn(contestants, rounds)
        counted = service.get_stats().hit_count - before
        assert counted == (rounds + 1) * GETS, "a hit was not counted"
        for peer, ratios in of.items():
            ratios.append(kit.ratio(taken["ours"], taken[peer]))
        each = {who: 1e6 * median(times) / GETS for who, times in taken.items()}
        spent.append(f"{name}: " + ", ".join(f"{who} {us:.2f} µs" for who, us in each.items()))
    await service.shutdown()
    faster = {peer: [1 / ratio for ratio in ratios] for peer, ratios in of.items()}
    names = " · ".join(VALUES)
    return [
        kit.Row(
            "F1",
            f"L1 hit by `await service.get(key)`: {names}",
            f"≤ {MOST_OF_FLOOR} x the floor",
            " · ".join(f"{ratio:.2f} x" for ratio in of["floor"]),
            max(of["floor"]) <= MOST_OF_FLOOR,
            "; ".join(spent),
        ),
        kit.Row(
            "F1",
            "the same beside cashews' memory get",
            f"≥ {LEAST_OF_CASHEWS:.0f} x faster",
            " · ".join(f"{times:.1f} x" for times in faster["cashews"]),
            min(faster["cashews"]) >= LEAST_OF_CASHEWS,
        ),
        kit.Row(
            "F1",
            "the same beside aiocache's memory get",
            f"≥ {LEAST_OF_AIOCACHE:.0f} x faster",
            " · ".join(f"{times:.1f} x" for times in faster["aiocache"]),
            min(faster["aiocache"]) >= LEAST_OF_AIOCACHE,
        ),
    ]


def main() -> None:
    kit.run(__doc__, measure)


if __name__ == "__main__":
    main()
