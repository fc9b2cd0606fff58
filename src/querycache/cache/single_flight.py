"""One load per key.

A flight owns its task: callers wait for it shielded and are counted, so that one caller's
cancellation never reaches the others, and the work stops only when the last caller has left
(unless it was told to finish behind). The task runs in a fresh context: what the first caller had
in its context variables does not leak into a result that others share. A flight that waits for
another leaves an edge; an edge that would close a circle raises instead of waiting for itself.

Flights belong to an event loop; each loop has its own table. Retiring a flight takes it off the
table: those who wait for it get its result, and nobody joins it any more.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Collection, Coroutine
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from querycache.clock import Clock
from querycache.errors import LoadTimeoutError, ReentrantLoadError

T = TypeVar("T")

_here: contextvars.ContextVar[Flight[object] | None] = contextvars.ContextVar(
    "flight", default=None
)


class Flight(Generic[T]):
    """A load under way."""

    __slots__ = ("finish_behind", "key", "tags", "task", "waiters", "waits_for")

    def __init__(self, key: str, tags: Collection[str]) -> None:
        self.key = key
        self.tags = frozenset(tags)
        self.waiters = 0
        self.finish_behind = False
        self.waits_for: set[Flight[T]] = set()
        self.task: asyncio.Task[T]

    def reaches(self, other: Flight[T]) -> bool:
        """Whether waiting for this flight would wait for `other`."""
        return self is other or any(next_.reaches(other) for next_ in self.waits_for)


class SingleFlight(Generic[T]):
    """The flights of a process, by loop and key."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tables: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Flight[T]]] = (
            WeakKeyDictionary()
        )
        self._tasks: set[asyncio.Task[T]] = set()
        self._closed = False

    def __len__(self) -> int:
        return sum(len(table) for table in list(self._tables.values()))

    def keys(self) -> list[str]:
        """The keys of the flights that can be joined, in all loops."""
        return [key for table in list(self._tables.values()) for key in list(table)]

    async def run(
        self,
        key: str,
        work: Callable[[], Coroutine[None, None, T]],
        tags: Collection[str] = (),
        timeout: float | None = None,  # noqa: ASYNC109 -- in seconds of our clock
    ) -> T:
        """The result of the flight for `key`, which `work` starts where there is none.

        Raises what the work raised; `LoadTimeoutError` after `timeout` seconds (the work then
        finishes behind); `ReentrantLoadError` where the wait would never end.
        """
        flight = self._table().get(key) or self._start(key, work, tags)
        try:
            return await self._wait(flight, timeout)
        except asyncio.CancelledError:
            if not flight.task.cancelled() or _cancelling() or self._closed:
                raise
        # The work was cancelled from within, not by us: one of those who waited starts it again.
        flight = self._table().get(key) or self._start(key, work, tags)
        return await self._wait(flight, timeout)

    def behind(
        self, key: str, work: Callable[[], Coroutine[None, None, T]], tags: Collection[str] = ()
    ) -> Flight[T] | None:
        """Starts a flight that nobody waits for; None if one is under way."""
        if key in self._table():
            return None
        flight = self._start(key, work, tags)
        flight.finish_behind = True
        flight.task.add_done_callback(_retrieve)
        return flight

    def retire(self, key: str) -> None:
        """Lets nobody join the flights of `key` that are under way, in any loop."""
        for table in list(self._tables.values()):
            table.pop(key, None)

    def retire_tagged(self, tags: Collection[str]) -> None:
        """The same for all flights that depend on one of `tags`."""
        for table in list(self._tables.values()):
            for key, flight in list(table.items()):
                if not flight.tags.isdisjoint(tags):
                    table.pop(key, None)

    def retire_all(self) -> None:
        for table in list(self._tables.values()):
            table.clear()

    async def close(self) -> None:
        """Cancels the flights of this loop and waits for their end; nothing is taken over."""
        self._closed = True
        loop = asyncio.get_running_loop()
        mine = [task for task in self._tasks if task.get_loop() is loop]
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)

    def _table(self) -> dict[str, Flight[T]]:
        loop = asyncio.get_running_loop()
        table = self._tables.get(loop)
        if table is None:
            table = self._tables[loop] = {}
        return table

    def _start(
        self, key: str, work: Callable[[], Coroutine[None, None, T]], tags: Collection[str]
    ) -> Flight[T]:
        table = self._table()
        flight: Flight[T] = Flight(key, tags)
        context = contextvars.Context()
        context.run(_here.set, flight)  # pyright: ignore[reportArgumentType]  # one T per table
        flight.task = asyncio.create_task(  # noqa: TID251 -- flights own their tasks
            work(), name=f"load {key}", context=context
        )
        table[key] = flight
        self._tasks.add(flight.task)

        def done(task: asyncio.Task[T]) -> None:
            self._tasks.discard(task)
            if table.get(key) is flight:
                del table[key]

        flight.task.add_done_callback(done)
        return flight

    async def _wait(self, flight: Flight[T], timeout: float | None) -> T:  # noqa: ASYNC109 -- our clock
        parent: Flight[T] | None = _here.get()  # pyright: ignore[reportAssignmentType]
        if parent is not None:
            if flight.reaches(parent):
                raise ReentrantLoadError(
                    f"the loader of {parent.key!r} asked for {flight.key!r}, which waits for it",
                    remedy="compute the inner value without the cache, or under another key",
                )
            parent.waits_for.add(flight)
        flight.waiters += 1
        try:
            if timeout is None:
                return await asyncio.shield(flight.task)
            return await self._race(flight, timeout)
        finally:
            flight.waiters -= 1
            if parent is not None:
                parent.waits_for.discard(flight)
            if not flight.waiters and not flight.finish_behind and not flight.task.done():
                table = self._table()
                if table.get(flight.key) is flight:
                    del table[flight.key]
                flight.task.cancel()

    async def _race(self, flight: Flight[T], timeout: float) -> T:  # noqa: ASYNC109 -- our clock
        timer = asyncio.create_task(self._clock.sleep(timeout))  # noqa: TID251 -- ends here
        try:
            await asyncio.wait({flight.task, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
        if flight.task.done():
            return flight.task.result()
        flight.finish_behind = True
        flight.task.add_done_callback(_retrieve)
        raise LoadTimeoutError(
            f"the loader of {flight.key!r} took longer than {timeout:g} s",
            remedy="raise CACHE_LOADER_TIMEOUT_S, or look at why the origin is slow",
        )


def _cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _retrieve(task: asyncio.Task[T]) -> None:
    """Marks a failure that nobody waits for as seen; the work itself reported it."""
    if not task.cancelled():
        task.exception()
