"""A whole cache over a tier that fails when told to: for users to rehearse their own code with."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NamedTuple

from querycache.cache.parts import Parts
from querycache.cache.policy import Policy
from querycache.cache.two_tier import TwoTier
from querycache.codec.pipeline import Pipeline
from querycache.events import TierFailed
from querycache.keys import Namer
from querycache.testing.clock import FakeClock
from querycache.testing.flaky import FlakyBackplane, FlakyTier
from querycache.testing.memory import MemoryL2, SharedMemory
from querycache.testing.observer import RecordingObserver
from querycache.tiers.breaker import Breaker
from querycache.tiers.guarded import GuardedTier
from querycache.tiers.memory import MemoryTier, weigh
from querycache.usecases.check_coherency import CheckCoherency, Coherency
from querycache.usecases.remember import Counted, Remember
from querycache.usecases.show_status import Health, ShowStatus
from querycache.values import Kind

_MAX_BYTES = 64 * 1024 * 1024
_BATCH = 100
_PULSE_S = 1.0


class RehearsedCache(Remember):
    """What `get_cache_service()` gives, as far as values, health and counts go, over the tier of a
    rehearsal.

    Attributes:
        observer: The events of the cache.
    """

    def __init__(self, core: TwoTier, clock: FakeClock, observer: RecordingObserver) -> None:
        policies = {kind: Policy(kind=kind) for kind in Kind}
        namer = Namer()
        super().__init__(core, namer, policies, _BATCH)
        self.observer = observer
        self._check = CheckCoherency(core, namer, policies, clock, _BATCH)
        self._status = ShowStatus(
            core,
            clock,
            l1_enabled=True,
            l2_enabled=True,
            redis=False,
            deletes=lambda: self.deletes,
            failures=lambda: len(observer.of(TierFailed)),
            checks=lambda: self._check.checks,
        )

    async def get_health(self) -> Health:
        """How the cache is, looked at now."""
        return await self._status.health()

    async def check_cache_coherency(self) -> Coherency:
        """Compares the tiers and heals what differs."""
        return await self._check()

    def get_stats(self) -> Counted:
        """What was done since the start."""
        return self.counted()


class Rehearsal(NamedTuple):
    """A cache, the shared tier that fails when told to, and the clock that both live by."""

    service: RehearsedCache
    flaky: FlakyTier
    clock: FakeClock


@asynccontextmanager
async def rehearsal(*, deadline_s: float = 0.25) -> AsyncGenerator[Rehearsal]:
    """A cache of two tiers as one process has it: L1, and an L2 in memory behind a deadline and a
    circuit breaker. The background work (telling L2 what it missed) runs as the clock advances.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     async with rehearsal() as (service, flaky, clock):
        ...         flaky.down = True
        ...         await service.set("k", 1)
        ...         return await service.get("k"), (await service.get_health()).status
        >>> asyncio.run(main())
        (1, 'degraded')
    """
    clock, observer = FakeClock(), RecordingObserver()
    memory = MemoryL2(SharedMemory(clock))
    flaky = FlakyTier(memory, clock=clock)
    draw = random.Random(0).random  # noqa: S311 -- jitter, the same each time
    guarded = GuardedTier(flaky, clock, deadline_s=deadline_s, breaker=Breaker(clock, chance=draw))
    core = TwoTier(
        Parts(
            l1=MemoryTier(max_entries=1000, max_bytes=_MAX_BYTES, policy="S3FIFO"),
            l2=guarded,
            backplane=FlakyBackplane(memory.backplane, flaky),
            codec=Pipeline(),
            clock=clock,
            observer=observer,
            weigh=weigh,
            draw=draw,
        )
    )
    behind = asyncio.ensure_future(_keep_house(core, clock))
    try:
        yield Rehearsal(RehearsedCache(core, clock, observer), flaky, clock)
    finally:
        behind.cancel()
        await asyncio.gather(behind, return_exceptions=True)
        flaky.heal()
        await core.close()
        await guarded.close()


async def _keep_house(core: TwoTier, clock: FakeClock) -> None:
    while True:
        await core.settle()
        await clock.sleep(_PULSE_S)
