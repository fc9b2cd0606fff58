"""Watch a project and keep its index up to date.

A watcher's event is a hint, the content is the truth. Events may be lost, so everything is looked
at when watching begins, when the watcher says that it lost something, and once in each sweep
interval. One process watches a project; another takes over when that one ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from querycache.clock import Clock
from querycache.errors import QueryCacheError
from querycache.ports.origins import Indexes, Lock, ProjectFiles, Watcher

_TAKE_OVER_S = 2.0
_LAGS_KEPT = 256


class Watched(msgspec.Struct):
    """How watching goes. `watching` is False while another process does it.

    `lags_ms`: for the last batches, the time from the report of a change to the end of its
    indexing. `error`: why the last attempt failed.
    """

    project: str
    root: str
    watching: bool = False
    batches: int = 0
    sweeps: int = 0
    error: str = ""
    lags_ms: deque[float] = msgspec.field(default_factory=lambda: deque(maxlen=_LAGS_KEPT))


class WatchFiles:
    """The use case."""

    def __init__(
        self,
        *,
        indexes: Indexes,
        watcher: Watcher,
        clock: Clock,
        sweep_interval_s: float,
    ) -> None:
        self._indexes = indexes
        self._watcher = watcher
        self._clock = clock
        self._sweep_interval_s = sweep_interval_s
        self.watched: dict[str, Watched] = {}

    async def __call__(
        self,
        name: str,
        files: ProjectFiles,
        bring_up: Callable[[Sequence[str] | None], Awaitable[object]],
    ) -> None:
        """Watches until cancelled. `bring_up` indexes: the given paths, or (None) everything."""
        state = self.watched[name] = Watched(name, files.root)
        while True:
            lock = await self._turn(state)
            try:
                state.watching = True
                await self._watch(state, files, bring_up)
            finally:
                state.watching = False
                lock.release()

    async def _turn(self, state: Watched) -> Lock:
        while (
            lock := await asyncio.to_thread(self._indexes.try_lock, state.project, "watch")
        ) is None:
            await self._clock.sleep(_TAKE_OVER_S)
        return lock

    async def _watch(
        self,
        state: Watched,
        files: ProjectFiles,
        bring_up: Callable[[Sequence[str] | None], Awaitable[object]],
    ) -> None:
        news: asyncio.Queue[frozenset[str]] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._listen(files, news)),
                group.create_task(self._sweep(news)),
            ]
            news.put_nowait(frozenset())
            try:
                while True:
                    await self._bring_up(state, bring_up, await self._next(news))
            finally:
                for task in tasks:
                    task.cancel()

    async def _listen(self, files: ProjectFiles, news: asyncio.Queue[frozenset[str]]) -> None:
        while True:  # watching ends with its root, which may come back
            async for batch in self._watcher.watch(files.root, files.accepts):
                news.put_nowait(batch)
            news.put_nowait(frozenset())
            await self._clock.sleep(_TAKE_OVER_S)

    async def _sweep(self, news: asyncio.Queue[frozenset[str]]) -> None:
        while True:
            await self._clock.sleep(self._sweep_interval_s)
            news.put_nowait(frozenset())

    async def _next(self, news: asyncio.Queue[frozenset[str]]) -> Sequence[str] | None:
        """All that is waiting, as one batch; None where everything is to be looked at."""
        batches = [await news.get()]
        while not news.empty():
            batches.append(news.get_nowait())
        if not all(batches):
            return None
        return sorted({path for batch in batches for path in batch})

    async def _bring_up(
        self,
        state: Watched,
        bring_up: Callable[[Sequence[str] | None], Awaitable[object]],
        paths: Sequence[str] | None,
    ) -> None:
        started = self._clock.monotonic()
        try:
            await bring_up(paths)
            state.error = ""
        except QueryCacheError as error:
            state.error = f"{type(error).__name__}: {error}"
        if paths is None:
            state.sweeps += 1
        else:
            state.batches += 1
            state.lags_ms.append((self._clock.monotonic() - started) * 1e3)
