"""The links of a process: one for each event loop, kept while the loop lives.

Beside its link each loop has a timer. Twice a second it says that the loop is awake, and looks
whether something was missed where the server can't tell by itself; every two seconds one of the
loops touches the probe.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Final, NamedTuple

from hiredis import ReplyError

from querycache.errors import TierError
from querycache.tiers.redis.link import Greeting, Link, Listener, Request, UnreachableError
from querycache.tiers.redis.names import Names
from querycache.tiers.redis.scripts import SOURCES, TOUCH, Call, pack
from querycache.tiers.redis.tracking import Ear, RedisBackplane

OpenLink = Callable[[Greeting, Listener], Link]
"""Makes the link of the running event loop, without connecting. The greeting says what to load,
track and subscribe to; who we are and which database is for the maker to add.
"""

_LOOK_S: Final = 0.5
_SILENT_S: Final = 2.0


class _Mine(NamedTuple):
    loop: asyncio.AbstractEventLoop
    link: Link
    ear: Ear


class Loops:
    """Gives each event loop its link. Safe under threads."""

    def __init__(
        self, open_link: OpenLink, names: Names, backplane: RedisBackplane, *, clustered: bool
    ) -> None:
        self._open_link = open_link
        self._names = names
        self._backplane = backplane
        self._clustered = clustered
        self._lock = threading.Lock()
        self._all: dict[asyncio.AbstractEventLoop, _Mine] = {}
        self._last: _Mine | None = None
        self._inherited: list[object] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def link(self) -> Link:
        """The link of the running loop. Raises `UnreachableError` once all was closed."""
        loop = asyncio.get_running_loop()
        last = self._last
        if last is not None and last.loop is loop:
            return last.link
        with self._lock:
            if self._closed:
                raise UnreachableError("the Redis tier was closed", code="closed")
            mine = self._all.get(loop)
            if mine is None:
                self._drop_ended()
                mine = self._all[loop] = self._opened(loop)
            self._last = mine
        return mine.link

    def links(self) -> list[Link]:
        """Those of all loops."""
        with self._lock:
            return [mine.link for mine in self._all.values()]

    async def close(self) -> None:
        """Closes the link of the running loop, and has those of other loops closed by these."""
        with self._lock:
            self._closed = True
            self._last = None
            every, self._all = list(self._all.values()), {}
        here = asyncio.get_running_loop()
        for mine in every:
            if mine.loop is here:
                await mine.link.close()
            elif not mine.loop.is_closed():
                with suppress(RuntimeError):  # it was closed just now
                    mine.loop.call_soon_threadsafe(self._close_there, mine)
            mine.ear.end()

    def after_fork(self) -> None:
        """Forgets the parent's links in a child, without touching them: the sockets are shared."""
        self._lock = threading.Lock()
        self._inherited.append((self._all, self._last, self._tasks))
        self._all = {}
        self._last = None
        self._tasks = set()

    def _opened(self, loop: asyncio.AbstractEventLoop) -> _Mine:
        names, source = self._names, self._backplane.source
        greeting = Greeting(
            scripts=SOURCES,
            prefixes=(names.shadows, names.counters, names.probe(source)),
            channel=b"" if self._clustered else names.channel,
        )
        ear = self._backplane.ear(clustered=self._clustered)
        try:
            mine = _Mine(loop, self._open_link(greeting, ear), ear)
        except BaseException:
            ear.end()
            raise
        # a context of its own: not the first caller's
        loop.call_later(_LOOK_S, self._look, mine, context=Context())
        return mine

    def _drop_ended(self) -> None:
        for loop in [loop for loop in self._all if loop.is_closed()]:
            self._all.pop(loop).ear.end()

    def _look(self, mine: _Mine) -> None:
        """What the timer of a loop does."""
        if self._all.get(mine.loop) is not mine:
            return
        mine.loop.call_later(_LOOK_S, self._look, mine, context=Context())
        if self._clustered:
            mine.ear.retain({node.where for node in mine.link.nodes()})
        if not mine.ear.present:
            return
        if all(_heard_of_late(channel, mine.loop) for channel in mine.ear.present):
            self._backplane.awake()
        probe = self._backplane.probe()
        work = self._touch(mine, probe) if probe is not None else None
        if not mine.ear.tracked:
            work = self._count(mine)
        if work is not None:
            self._start(mine, work)

    def _close_there(self, mine: _Mine) -> None:
        self._start(mine, mine.link.close())

    def _start(self, mine: _Mine, work: Coroutine[None, None, None]) -> None:
        task = mine.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _touch(self, mine: _Mine, probe: bytes) -> None:
        call = Call(TOUCH, (probe,), ())
        try:
            (reply,) = await mine.link.call(call.request())
            if isinstance(reply, ReplyError) and reply.args[0].startswith("NOSCRIPT"):
                await mine.link.call(call.in_full())
        except TierError:
            return  # the probe is overdue then, and says so

    async def _count(self, mine: _Mine) -> None:
        before = mine.ear.number
        name = self._names.sequence
        try:
            (reply,) = await mine.link.call(Request(name, pack((b"GET", name))))
        except TierError:
            return  # the connection sees to itself
        if isinstance(reply, bytes) and reply.isdigit():
            mine.ear.counted(int(reply), before)
        elif reply is None:
            mine.ear.counted(None, before)


def _heard_of_late(channel: object, loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the server has said anything of late; an idle connection is pinged each second."""
    return loop.time() - getattr(channel, "heard_at", loop.time()) < _SILENT_S
