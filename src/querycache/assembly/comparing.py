"""When the tiers are compared: by sample now and then, and in full when another process asks."""

from __future__ import annotations

import asyncio

import msgspec

from querycache.observe.registry import Registry
from querycache.usecases.check_coherency import CheckCoherency, Coherency

_SAMPLE = 200
"""Entries of L1 that a comparison in the background looks at."""

REQUEST = "coherency"


class Compared(msgspec.Struct, frozen=True):
    """What a process answers to the request of that number."""

    request: int
    found: Coherency


class Comparing:
    """One process's turn at it.

    Attributes:
        answer: What was found when another process asked last; published beside the counts.
    """

    def __init__(
        self, check: CheckCoherency, registry: Registry, interval_s: float | None
    ) -> None:
        """`interval_s` lies between two comparisons by sample; None: there are none."""
        self.answer: Compared | None = None
        self._check = check
        self._registry = registry
        self._interval_s = interval_s
        self._last: float | None = None
        self._request = 0

    async def turn(self, now: float) -> None:
        """Compares, if it is time (monotonic seconds)."""
        request = await asyncio.to_thread(self._registry.requested, REQUEST)
        if self._last is None:
            self._last = now
        if request != self._request:
            self._request = request
            if request:
                self.answer = Compared(request, await self._check())
        elif self._interval_s is not None and now - self._last >= self._interval_s:
            self._last = now
            await self._check(limit=_SAMPLE)
