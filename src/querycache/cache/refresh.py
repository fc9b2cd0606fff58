"""Bounded background reload."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from typing import Generic, TypeVar

from querycache.cache.single_flight import Flight, SingleFlight

T = TypeVar("T")


class Refresh(Generic[T]):
    """Starts reloads that nobody waits for, never more than `limit` at once.

    Over the limit nothing starts: the entry stays as it is, and the next hit tries again.
    """

    def __init__(self, flights: SingleFlight[T], limit: int = 16) -> None:
        self._flights = flights
        self._limit = limit
        self._running: set[Flight[T]] = set()

    def behind(
        self, key: str, work: Callable[[], Coroutine[None, None, T]], tags: Collection[str]
    ) -> bool:
        """Whether a reload of `key` was started (one that is under way is joined by nobody)."""
        if len(self._running) >= self._limit:
            return False
        flight = self._flights.behind(key, work, tags)
        if flight is None:
            return False
        self._running.add(flight)
        flight.task.add_done_callback(lambda _: self._running.discard(flight))
        return True
