"""The figures of a serving process as they go on: a tick each second, and who follows it.

The history is taken at each tick, which costs no I/O. The tiers, the processes and the projects
are looked at only while somebody follows, and for a page; where a look is slow it is rarer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from querycache.assembly.memory import resident
from querycache.doors.dashboard.history import History
from querycache.doors.dashboard.page import page
from querycache.doors.dashboard.sample import (
    Happened,
    Projects,
    Sample,
    look,
    look_at_projects,
)
from querycache.doors.dashboard.shown import shown
from querycache.errors import QueryCacheError

if TYPE_CHECKING:
    from querycache.assembly.app import App

MOST_FOLLOWERS = 32
AGAIN_MS = 2000

_TICK_S = 1.0
_HEARTBEAT_S = 15.0
_AFTER_FAILURE_S = 15.0
_PROJECTS_EVERY_S = 5.0
_SPARE = 10.0  # a look that takes a second comes every ten
_STALE_S = 2.0
_EVENTS_AT_ONCE = 20

_logger = logging.getLogger(__name__)


class Live:
    """The figures of one App. `followers` may be at most MOST_FOLLOWERS; whoever serves them
    counts.
    """

    def __init__(self, app: App) -> None:
        self.followers = 0
        self._app = app
        self._history = History()
        self._steps: dict[str, float] = {}
        self._sample: Sample | None = None
        self._projects = Projects()
        self._due = 0.0
        self._ended = False
        self._turn = asyncio.Event()
        self._looking = asyncio.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Ticks during the block."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._tick()), group.create_task(self._tend_projects())]
            try:
                yield
            finally:
                self.end()
                for task in tasks:
                    task.cancel()

    def end(self) -> None:
        """Ends every stream."""
        self._ended = True
        self._turn.set()

    async def page(self) -> str:
        """The page with the figures of now."""
        if self._age(self._projects.at) > _PROJECTS_EVERY_S:
            await self._look_at_projects()
        async with self._looking:
            self._sample = await look(self._app, self._projects, self._steps)
        return page(shown(self._sample), self._history.seconds.range())

    async def stream(self, gone: asyncio.Future[None]) -> AsyncGenerator[bytes]:
        """Server-sent events until `gone` is done or the server ends: `history` once, then each
        second `sample` (the figures), `page` (their words), and `event` for what happened.
        """
        yield f"retry: {AGAIN_MS}\n\n".encode()
        yield _event("history", self._ranges())
        told_of: dict[str, float] = {}
        began = self._app.clock.wall()
        told = self._sample if self._due < self._app.clock.monotonic() - _STALE_S else None
        while not self._ended:
            sample = self._sample
            if sample is None or sample is told:
                yield b": nothing new\n\n"
            else:
                told = sample
                yield _event("sample", sample) + _event("page", shown(sample))
                for one in news(sample.events, told_of, began):
                    yield _event("event", one)
            if not await self._next(gone):
                return

    async def _next(self, gone: asyncio.Future[None]) -> bool:
        """Whether there is a next turn; after a while even if nothing happens."""
        turn = asyncio.ensure_future(self._turn.wait())
        try:
            await asyncio.wait(
                {turn, gone}, timeout=_HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            turn.cancel()
        return not (gone.done() or self._ended)

    def _ranges(self) -> object:
        return {"seconds": self._history.seconds.range(), "minutes": self._history.minutes.range()}

    async def _tick(self) -> None:
        while True:
            began = self._app.clock.monotonic()
            pause = _TICK_S
            try:
                await self._take()
            except (OSError, QueryCacheError) as error:  # the next turn may do better
                _logger.warning("dashboard: %s", ascii(str(error)))
            except Exception:
                _logger.exception("dashboard: a turn failed")  # and must not end the server
                pause = _AFTER_FAILURE_S
            turn, self._turn = self._turn, asyncio.Event()
            turn.set()
            await self._app.clock.sleep(max(0.05, pause - self._age(began)))

    async def _take(self) -> None:
        did = self._app.status.snapshot()
        self._steps = self._history.take(self._app.clock.wall(), did, resident())
        now = self._app.clock.monotonic()
        if self.followers and now >= self._due:
            if self._projects == Projects():
                await self._look_at_projects()
            async with self._looking:
                self._sample = await look(self._app, self._projects, self._steps)
            self._due = now + _SPARE * self._age(now) - _TICK_S / 2

    async def _tend_projects(self) -> None:
        while True:
            every = max(_PROJECTS_EVERY_S, _SPARE * self._projects.took_s)
            if self.followers and self._age(self._projects.at) >= every:
                await self._look_at_projects()
            await self._app.clock.sleep(_TICK_S)

    async def _look_at_projects(self) -> None:
        try:
            self._projects = await look_at_projects(self._app)
        except (OSError, QueryCacheError) as error:  # the rest is shown all the same
            _logger.warning("dashboard: %s", ascii(str(error)))
        except Exception:
            _logger.exception("dashboard: the projects could not be looked at")
        now = self._app.clock.monotonic()
        self._projects = msgspec.structs.replace(self._projects, at=now)

    def _age(self, then: float) -> float:
        return self._app.clock.monotonic() - then


def news(events: Sequence[Happened], told: dict[str, float], began: float) -> list[Happened]:
    """What happened after `began` and is not `told` yet, oldest first; of many the newest.
    `events` are newest first; `told` has the last one's time by process, since processes publish
    theirs at different times, and is brought up to date.
    """
    found = [one for one in events if one.at > told.get(one.process, began)]
    for one in reversed(found):
        told[one.process] = one.at
    return found[:_EVENTS_AT_ONCE][::-1]


def _event(name: str, data: object) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"
