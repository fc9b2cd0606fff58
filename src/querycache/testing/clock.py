"""A clock that only moves when told to."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class FakeClock:
    """Time that stands still until `advance`. `wall_now` may be set apart: a clock that jumps."""

    def __init__(self, now: float = 1000.0, wall: float = 1_700_000_000.0) -> None:
        self.now = now
        self.wall_now = wall
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.wall_now

    async def sleep(self, seconds: float, /) -> None:
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._order), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Moves both clocks; wakes the sleepers in order and lets everything run."""
        end = self.now + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, future = heapq.heappop(self._sleepers)
            self._move(due)
            if not future.done():
                future.set_result(None)
            await self.settle()
        self._move(end)
        await self.settle()

    @staticmethod
    async def settle(turns: int = 50) -> None:
        """Lets what is ready run."""
        for _ in range(turns):
            await asyncio.sleep(0)

    def _move(self, now: float) -> None:
        self.wall_now += now - self.now
        self.now = now
