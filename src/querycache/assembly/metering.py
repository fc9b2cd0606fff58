"""What measures a process while it lives, and the page of its metrics."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from querycache.assembly.posting import Posting
from querycache.cache.sampling import Sampling
from querycache.events import TierFailed
from querycache.observe.memory_pressure import ProcessMemory
from querycache.usecases.show_status.metrics import Seen, measured

if TYPE_CHECKING:
    from querycache.assembly.cases import UseCases

_READ_EVERY_S = 10.0


class Metering:
    """The measuring of one process."""

    def __init__(self, parts: UseCases) -> None:
        self._parts = parts
        self._sampling = Sampling(parts.core, parts.clock)
        self._memory = ProcessMemory()
        self._due = parts.clock.monotonic()
        self.posting = Posting(parts)

    async def turn(self) -> None:
        """One turn, each second."""
        self._sampling.turn()
        await self.posting.turn()
        now, traced = self._parts.clock.monotonic(), self._parts.config.watch.tracing
        if traced and now >= self._due:
            self._due = now + _READ_EVERY_S
            self._parts.measured = list(measured(await self.seen()))

    async def close(self) -> None:
        """Takes down what other machines read, and sends what waits for OpenTelemetry."""
        await self.posting.close()
        await asyncio.to_thread(self._parts.tracing.close)

    async def page(self) -> bytes:
        """The metrics of this process, as Prometheus reads them."""
        from querycache.observe.exposition import page

        return page(measured(await self.seen()))

    async def seen(self) -> Seen:
        """A look at this process, now."""
        parts = self._parts
        return Seen(
            snapshot=parts.status.snapshot(),
            health=await parts.status.health(),
            memory=await asyncio.to_thread(self._memory.read),
            happened=dict(parts.ring.counts),
            failed=parts.ring.by_label(TierFailed),
            started=parts.started_at,
            price=parts.config.embedder.price,
        )
