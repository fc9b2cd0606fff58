"""What the tests of the core share: processes over one store, a fake clock, a slow loader."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from querycache.cache.parts import Parts
from querycache.cache.policy import Policy
from querycache.cache.two_tier import TwoTier
from querycache.cache.waiting import Limits
from querycache.codec.keyring import Keyring
from querycache.codec.pipeline import Pipeline
from querycache.codec.seal import AesSeal
from querycache.ports.journal import Journal
from querycache.testing import FakeClock, MemoryL2, RecordingObserver, SharedMemory
from querycache.tiers.memory import MemoryTier, weigh

ALL = ("all",)
KEY = "codebase_rag:other:_:k"
PLAIN = Policy(ttl=100.0)


class Process:
    """One process's core over the shared store."""

    def __init__(
        self,
        shared: SharedMemory,
        seed: int = 1,
        limits: Limits = Limits(),  # noqa: B008 -- an immutable value
        journal: Journal | None = None,
        ring: Keyring | None = None,
    ) -> None:
        """With a `ring` what the store holds is sealed."""
        self.l2 = MemoryL2(shared)
        self.clock = shared.clock
        self.observer = RecordingObserver()
        self.l1 = MemoryTier(max_entries=100, max_bytes=1_000_000, policy="S3FIFO")
        self.core = TwoTier(
            Parts(
                l1=self.l1,
                l2=self.l2,
                backplane=self.l2.backplane,
                codec=Pipeline(seal=AesSeal(ring, self.l2, shared.clock) if ring else None),
                clock=shared.clock,
                observer=self.observer,
                weigh=weigh,
                draw=random.Random(seed).random,  # noqa: S311 -- jitter
            ),
            limits,
            journal,
        )

    async def get(self, key: str = KEY, policy: Policy = PLAIN) -> object:
        return (await self.core.get(key, policy)).value

    async def put(self, value: object, key: str = KEY, policy: Policy = PLAIN) -> bool:
        return (await self.core.put({key: value}, policy, tags=ALL))[0]

    def whole(self) -> None:
        """The cache is whole: bytes add up, no flight, no claim, no task is left."""
        entries = self.core.l1.entries
        info = self.l1.info()
        assert info.bytes == sum(entry.weight for entry in entries.values())
        assert info.size == len(entries)
        assert all(key == entry.key for key, entry in entries.items())
        assert len(self.core.flights) == 0
        assert len(self.core.writer.claims) == 0
        assert [task for task in asyncio.all_tasks() if task.get_name().startswith("load ")] == []


class Origin:
    """A loader that answers when told to, and counts."""

    def __init__(self, value: object = "loaded") -> None:
        self.value = value
        self.error: BaseException | None = None
        self.calls = 0
        self.started = asyncio.Event()
        self.gate = asyncio.Event()

    def open(self) -> Origin:
        self.gate.set()
        return self

    async def __call__(self) -> object:
        self.calls += 1
        value = self.value
        self.started.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return value


@asynccontextmanager
async def processes(
    count: int = 1,
    limits: Limits = Limits(),  # noqa: B008 -- an immutable value
) -> AsyncGenerator[list[Process]]:
    """Processes over one shared store; checks at the end that each is whole."""
    shared = SharedMemory(FakeClock())
    started = [Process(shared, seed=place, limits=limits) for place in range(count)]
    yield started
    shared.down = False
    await shared.clock.settle()
    for process in started:
        assert await process.core.write_back.close() == 0
        process.whole()
