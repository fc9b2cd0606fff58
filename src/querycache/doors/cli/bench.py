"""How long a hit takes here: the whole path of each tier, in a temporary store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec

from querycache.config import Config

if TYPE_CHECKING:
    from querycache.assembly import App

_ROUNDS = 7
_KEYS = 500
_BATCH = 100
_L1_PASSES = 10
_VALUE = {"path": "src/app.py", "lines": [10, 42], "text": "x" * 900}


class Figure(msgspec.Struct, frozen=True):
    """One operation: milliseconds for one key, the median of the rounds and the best of them."""

    name: str
    median_ms: float
    best_ms: float
    what: str


class Measured(msgspec.Struct, frozen=True):
    """All figures."""

    figures: list[Figure]
    rounds: int
    value_bytes: int
    l2_backend: str


def measure(config: Config) -> Measured:
    """Runs every operation some thousand times, some seconds in all."""
    with TemporaryDirectory(prefix="querycache-bench-") as home:
        l1 = msgspec.structs.replace(config.l1, max_size=max(config.l1.max_size, 2 * _KEYS))
        scratch = msgspec.structs.replace(config, home=Path(home), l1=l1)
        figures = asyncio.run(_measured(scratch))
        encoded = len(msgspec.msgpack.encode(_VALUE))
        return Measured(figures, _ROUNDS, encoded, scratch.l2_backend)


async def _measured(config: Config) -> list[Figure]:
    from querycache.assembly import App

    figures: list[Figure] = []
    in_memory = msgspec.structs.replace(config.core, level="L1_MEMORY")
    alone = App(msgspec.structs.replace(config, core=in_memory), door="bench")
    try:
        keys = [f"bench:{number}" for number in range(_KEYS)]
        figures.append(await _figure(alone, "L1 set", "memory alone", _sets(alone), _KEYS))
        figures.append(await _figure(alone, "L1 hit", "get", _gets(alone, keys), _PASSED))
    finally:
        await alone.close()
    if config.l2_backend == "none":
        return figures
    both = App(config, door="bench")
    try:
        figures.append(await _figure(both, "L2 set", "durable, both tiers", _sets(both), _KEYS))
        await both.remember.set_batch(dict.fromkeys(keys, _VALUE))
        gets, batches = _l2_gets(both, keys), _l2_batches(both, keys)
        figures.append(await _figure(both, "L2 hit", "get, L1 empty", gets, _KEYS))
        what = f"each key of a get_batch of {_BATCH}, L1 empty"
        figures.append(await _figure(both, "L2 batch", what, batches, _KEYS))
    finally:
        await both.close()
    return figures


_PASSED = _KEYS * _L1_PASSES
Round = Callable[[], Awaitable[None]]


async def _figure(app: App, name: str, what: str, run: Round, operations: int) -> Figure:
    taken: list[float] = []
    for _ in range(_ROUNDS + 1):  # the first one warms up
        started = app.clock.monotonic()
        await run()
        taken.append((app.clock.monotonic() - started) / operations * 1e3)
    del taken[0]
    return Figure(name, median(taken), min(taken), what)


def _sets(app: App) -> Round:
    fresh = count()

    async def run() -> None:
        for _ in range(_KEYS):
            await app.remember.set(f"bench-set:{next(fresh) % (2 * _KEYS)}", _VALUE)

    return run


def _gets(app: App, keys: Sequence[str]) -> Round:
    async def run() -> None:
        get = app.remember.get
        for _ in range(_L1_PASSES):
            for key in keys:
                await get(key)

    return run


def _l2_gets(app: App, keys: Sequence[str]) -> Round:
    async def run() -> None:
        app.l1.clear()
        for key in keys:
            await app.remember.get(key)

    return run


def _l2_batches(app: App, keys: Sequence[str]) -> Round:
    async def run() -> None:
        app.l1.clear()
        for start in range(0, len(keys), _BATCH):
            await app.remember.get_batch(keys[start : start + _BATCH])

    return run
