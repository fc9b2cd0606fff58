"""Watch the files under a root, and have them looked at whenever they may have changed.

A watcher's event is a hint, the content is the truth. Events may be lost, so everything is looked
at when watching begins, when the watcher says that it lost something, and once in each sweep
interval. What has been looked at is settled after it, which may take long, while the next is
looked at. One process watches a project; another takes over when that one ends. Watching that
fails is told in `Watched.error`, and begins anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import msgspec

from querycache.clock import Clock
from querycache.errors import QueryCacheError
from querycache.ports.origins import Indexes, Lock, ProjectFiles, Watcher

_TAKE_OVER_S = 2.0
_LAGS_KEPT = 256

_logger = logging.getLogger(__name__)

Look = Callable[[Sequence[str] | None], Awaitable[None]]
"""Looks at the given paths, or (None) at everything; is not kept waiting by what follows."""

Settle = Callable[[Sequence[str] | None], Awaitable[Sequence[float]]]
"""Does what is left to do for all that was looked at: these paths, or (None) everything. Gives,
for each file that had changed, the seconds from the change until nothing that was derived from it
could be had any more.
"""


class Watched(msgspec.Struct):
    """How watching goes.

    Attributes:
        project: The project's name; "" for a root that is watched without being one.
        root: The absolute path.
        alive: Whether anyone attends to it; False for good once it was given up.
        watching: Whether this process watches; False while another one does.
        listening: Whether changes are being reported to it.
        batches: How many reports were looked at.
        sweeps: How many times everything was.
        failure: Why the last look, or the last attempt to watch, failed.
        deaf: Why no changes are being reported.
        last_event_at: Wall seconds of the last report; 0.0 before the first.
        lags_ms: Of the last changed files, the ms from the change until nothing that was derived
            from it could be had any more.
        stands: Set once changes are reported for the first time.
    """

    project: str
    root: str
    alive: bool = True
    watching: bool = False
    listening: bool = False
    batches: int = 0
    sweeps: int = 0
    failure: str = ""
    deaf: str = ""
    last_event_at: float = 0.0
    lags_ms: deque[float] = msgspec.field(default_factory=lambda: deque(maxlen=_LAGS_KEPT))
    stands: asyncio.Event = msgspec.field(default_factory=asyncio.Event)

    @property
    def error(self) -> str:
        """What is wrong now; "" where nothing is."""
        return self.deaf or self.failure

    def told(self) -> dict[str, object]:
        """The same as plain values, for other processes: the fields up to `lags_ms`, with
        `lag_ms_p50` and `lag_ms_max` (None before the first change).
        """
        lags = sorted(self.lags_ms)
        return {
            "project": self.project,
            "root": self.root,
            "alive": self.alive,
            "watching": self.watching,
            "listening": self.listening,
            "batches": self.batches,
            "sweeps": self.sweeps,
            "error": self.error,
            "last_event_at": self.last_event_at,
            "lag_ms_p50": round(lags[len(lags) // 2], 3) if lags else None,
            "lag_ms_max": round(lags[-1], 3) if lags else None,
        }


class WatchFiles:
    """The use case. `watched` are the projects by name, `monitored` the other roots by path."""

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
        self.monitored: dict[str, Watched] = {}

    async def __call__(self, name: str, files: ProjectFiles, look: Look, settle: Settle) -> None:
        """Watches a project, if no other process does, until cancelled."""
        state = self.watched[name] = Watched(name, files.root)
        await self._keep_watching(state, files, look, settle)

    async def monitor(self, files: ProjectFiles, look: Look, settle: Settle) -> None:
        """Watches a root, whoever else does, until cancelled."""
        state = self.monitored.setdefault(files.root, Watched("", files.root))
        await self._keep_watching(state, files, look, settle)

    async def _keep_watching(
        self, state: Watched, files: ProjectFiles, look: Look, settle: Settle
    ) -> None:
        try:
            while True:
                try:
                    await self._in_turn(state, files, look, settle)
                except Exception as error:  # it begins anew, whatever failed
                    state.failure = _in_a_line(error)
                    _logger.exception("watching %s failed; it begins anew", ascii(state.root))
                await self._clock.sleep(_TAKE_OVER_S)
        finally:
            state.alive = False

    async def _in_turn(
        self, state: Watched, files: ProjectFiles, look: Look, settle: Settle
    ) -> None:
        lock = await self._turn(state) if state.project else None
        state.watching = True
        try:
            await self._watch(state, files, look, settle)
        finally:
            state.watching = state.listening = False
            if lock is not None:
                lock.release()

    async def _turn(self, state: Watched) -> Lock:
        while (
            lock := await asyncio.to_thread(self._indexes.try_lock, state.project, "watch")
        ) is None:
            await self._clock.sleep(_TAKE_OVER_S)
        return lock

    async def _watch(
        self, state: Watched, files: ProjectFiles, look: Look, settle: Settle
    ) -> None:
        news: asyncio.Queue[frozenset[str]] = asyncio.Queue()
        seen: asyncio.Queue[frozenset[str]] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._listen(state, files, news)),
                group.create_task(self._sweep(news)),
                group.create_task(self._look(look, news, seen)),
            ]
            news.put_nowait(frozenset())
            try:
                while True:
                    await self._settle(state, settle, await self._next(seen))
            finally:
                for task in tasks:
                    task.cancel()

    async def _listen(
        self, state: Watched, files: ProjectFiles, news: asyncio.Queue[frozenset[str]]
    ) -> None:
        while True:  # watching ends with its root, which may come back
            async for batch in self._watcher.watch(files.root, files.accepts):
                state.listening, state.deaf = True, ""
                state.stands.set()
                if batch:
                    state.last_event_at = self._clock.wall()
                news.put_nowait(batch)
            state.listening, state.deaf = False, "the folder is gone, or can't be watched"
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

    async def _look(
        self,
        look: Look,
        news: asyncio.Queue[frozenset[str]],
        seen: asyncio.Queue[frozenset[str]],
    ) -> None:
        while True:
            paths = await self._next(news)
            await look(paths)
            seen.put_nowait(frozenset(paths or ()))

    async def _settle(self, state: Watched, settle: Settle, paths: Sequence[str] | None) -> None:
        try:
            state.lags_ms.extend(lag * 1e3 for lag in await settle(paths))
            state.failure = ""
        except QueryCacheError as error:
            state.failure = _in_a_line(error)
        if paths is None:
            state.sweeps += 1
        else:
            state.batches += 1


def _in_a_line(error: Exception) -> str:
    if isinstance(error, ExceptionGroup):
        group = cast("ExceptionGroup[Exception]", error)
        return _in_a_line(group.exceptions[0])
    return f"{type(error).__name__}: {error}"
