"""A sealing codec over a shared tier in memory, and fixed randomness for golden bytes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import os
from collections.abc import Collection
from pathlib import Path

import pytest

from querycache.codec.keyring import Keyring, Source
from querycache.codec.pipeline import Pipeline
from querycache.codec.seal import AesSeal
from querycache.ports.codec import ANY, Record, Shape
from querycache.testing.clock import FakeClock
from querycache.testing.memory import MemoryL2, SharedMemory
from querycache.values import Kind

NOWHERE = Path("/nonexistent/keys")
KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))


def ring_of(key: bytes | None = KEY, store: Path = NOWHERE) -> Keyring:
    variable = base64.b64encode(key).decode() if key else ""
    return Keyring(Source(variable=variable, file=None, command="", store=store), FakeClock())


class Process:
    """A codec as one process has it.

    Attributes:
        l2: Its handle on the shared tier.
    """

    def __init__(
        self,
        shared: SharedMemory,
        ring: Keyring | None = None,
        kinds: Collection[str] = frozenset(Kind),
    ) -> None:
        self.l2 = MemoryL2(shared)
        self.seal = AesSeal(ring or ring_of(), self.l2, shared.clock, kinds)
        self.codec = Pipeline(seal=self.seal)

    async def sealed(self, record: Record) -> bytes:
        if (pending := self.codec.prepare([record.key])) is not None:
            await pending
        return self.codec.seal(record)

    async def opened(self, key: str, data: bytes) -> Record:
        if (pending := self.codec.prepare([key], [data])) is not None:
            await pending
        return self.codec.open(key, data)


class Ready(Pipeline):
    """A pipeline that prepares by itself."""

    def __init__(self) -> None:
        shared = SharedMemory(FakeClock())
        super().__init__(seal=AesSeal(ring_of(), MemoryL2(shared), shared.clock))

    def seal(self, record: Record, shape: Shape = ANY) -> bytes:
        pending = self.prepare([record.key])
        if pending is not None:
            with asyncio.Runner() as runner:
                runner.run(_awaited(pending))
        return super().seal(record, shape)


async def _awaited(pending: object) -> None:
    await pending  # pyright: ignore[reportGeneralTypeIssues]  # an awaitable


def fixed_randomness(patch: pytest.MonkeyPatch) -> None:
    """Has `os.urandom` give the same bytes each time."""
    number = itertools.count()

    def urandom(size: int) -> bytes:
        return hashlib.shake_128(b"%d" % next(number)).digest(size)

    patch.setattr(os, "urandom", urandom)
