"""Warm a project up: ask what was asked most, by the normal path, within a budget."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import msgspec

from querycache.clock import Clock
from querycache.errors import QueryCacheError
from querycache.ports.tiers import L1

Outcome = Literal["l1", "l2", "none"]


class Warmed(msgspec.Struct, frozen=True):
    """What was done. `loaded` were computed or brought in from L2, `skipped` were in memory
    already or left when the budget was spent; `bytes` is what L1 grew by.
    """

    loaded: int
    skipped: int
    failed: int
    bytes: int
    took_ms: float


class WarmUp:
    """The use case."""

    def __init__(self, l1: L1, clock: Clock) -> None:
        self._l1 = l1
        self._clock = clock

    async def __call__(
        self,
        queries: Sequence[str],
        ask: Callable[[str], Awaitable[Outcome]],
        *,
        budget_s: float = 30.0,
        budget_bytes: float = float("inf"),
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> Warmed:
        """Asks each query with `ask`, which says where the answer came from."""
        started = self._clock.monotonic()
        before = self._l1.info().bytes
        loaded = skipped = failed = 0
        for place, query in enumerate(queries):
            spent = self._clock.monotonic() - started
            if spent >= budget_s or self._l1.info().bytes - before >= budget_bytes:
                skipped += len(queries) - place
                break
            try:
                tier = await ask(query)
            except QueryCacheError:
                failed += 1
            else:
                loaded += tier != "l1"
                skipped += tier == "l1"
            progress(place + 1, len(queries))
        return Warmed(
            loaded=loaded,
            skipped=skipped,
            failed=failed,
            bytes=max(0, self._l1.info().bytes - before),
            took_ms=(self._clock.monotonic() - started) * 1e3,
        )
