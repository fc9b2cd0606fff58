"""One multiplexed connection to a server: requests in, replies and pushes out, in stream order.

Whoever calls gets a future; the futures wait in a queue, and replies are handed out from its head.
A waiter that was cancelled or ran out of time keeps its place there, so that its late reply is
dropped and not handed to the next. Deadlines need no timer for each call, because all calls have
the same one: the queue is in order of time, and a single timer looks at its head. A head that is
overdue twice over, a connection that is silent, a reply that nobody asked for or that is too large
ends the connection: it is never used again.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import weakref
from collections import deque
from dataclasses import dataclass
from typing import Final, Literal, Protocol, cast

import hiredis

from querycache.tiers.redis.endpoint import explain
from querycache.tiers.redis.link import DeadlineError, Reply, UnreachableError
from querycache.tiers.redis.sender import Sender

Hearing = Literal["tracked", "subscribed", "deaf"]
"""How the server tells this connection what others change: invalidations of tracked prefixes,
messages of a channel, or not at all.
"""

_NOTHING: Final = object()
_PING: Final = b"*1\r\n$4\r\nPING\r\n"
_IDLE_S: Final = 1.0
_SILENT_S: Final = 2.0
_LATE_S: Final = 0.05  # a timer that fires so much too late was held up by its own loop
_GRACE_S: Final = 0.02
_READER_KEEPS: Final = 1024 * 1024
_PUSH: Final = hiredis.PushNotification
_CHECK: Final = "check that it is a Redis server"
_LOOK: Final = "look into the server's log and its load"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a connection puts up with.

    Attributes:
        deadline_s: For each call.
        patience_s: For connecting and the greeting, where nobody waits longer than `deadline_s`.
        reply_bytes: Of a reply as buffered.
        unsent_bytes: Of requests that wait to be written.
    """

    deadline_s: float = 0.25
    patience_s: float = 2.0
    reply_bytes: int = 512 * 1024 * 1024
    unsent_bytes: int = 64 * 1024 * 1024


class Owner(Protocol):
    """Who a connection reports to, from its loop."""

    def heard(self, push: list[object]) -> None:
        """A push, in its place in the stream."""
        ...

    def late(self, count: int) -> None:
        """So many calls ran out of time."""
        ...

    def lost(self, connection: Connection, error: UnreachableError) -> None:
        """It ended. Called once."""
        ...


class Connection(asyncio.Protocol):
    """A connection, of the event loop that made it.

    Attributes:
        where: `host:port` or a path.
        hearing: How it hears of changes; known when greeted.
        server: What the server said of itself: version, mode, role...; empty on RESP2.
        heard_at: When the last byte came, in seconds of `time.monotonic`.
        refused: What it would not do of the greeting, by command, with its words.
        error: Why it ended; None while it lives.
        ended: Done when its socket is closed.
    """

    def __init__(self, where: str, owner: Owner, limits: Limits) -> None:
        loop = asyncio.get_running_loop()
        self.where = where
        self.hearing: Hearing = "deaf"
        self.server: dict[bytes, object] = {}
        self.refused: dict[str, str] = {}
        self.heard_at = loop.time()
        self.error: UnreachableError | None = None
        self.ended: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._time = loop.time
        self._owner = owner
        self._limits = limits
        self._deadline_s = limits.patience_s
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._reader.setmaxbuf(_READER_KEEPS)
        self._buffered = 0
        self._waiting: deque[tuple[asyncio.Future[list[Reply]] | None, int, float]] = deque()
        self._parts: list[Reply] = []
        self._sender = Sender(loop, limits.unsent_bytes)
        self._overdue = float("-inf")  # what was sent until then has run out of time
        self._refusing = False
        self._excused = False
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many calls the server has not answered yet."""
        return len(self._waiting)

    def call(self, data: bytes, replies: int = 1) -> asyncio.Future[list[Reply]]:
        """Sends one or more packed commands that get so many replies. The calls of one turn of
        the loop leave together; what finds the connection idle leaves at once.

        Raises:
            UnreachableError: At once; nothing was sent.
        """
        waiting = self._waiting
        if self._refusing or not self._sender.send(data, at_once=not waiting):
            raise self._refusal()
        now = self._time()
        if now + self._deadline_s < self._due:
            self._arm(now + self._deadline_s)
        future: asyncio.Future[list[Reply]] = self._loop.create_future()
        waiting.append((future, replies, now))
        return future

    def greeted(self) -> None:
        """From now on calls have the usual deadline."""
        self._deadline_s = self._limits.deadline_s

    def close(self, why: str = "the connection was closed here") -> None:
        """Ends it at once; who waits gets UnreachableError."""
        self._end(UnreachableError(f"Redis at {self.where}: {why}", code="closed"))

    def disown(self) -> None:
        """In a child process: the socket is the parent's, and nothing more is sent or read."""
        self.error = UnreachableError(
            f"Redis at {self.where}: the connection belongs to the parent process",
            remedy="make a cache of its own in the child process",
            code="fork",
        )
        self._refusing = True
        self._sender.end()
        self._transport = None  # closing it would take it from the parent's selector too
        if self._timer is not None:
            self._timer.cancel()

    # what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # a stream, as asked for; uvloop's is one by its methods only
        self._transport = stream = cast("asyncio.Transport", transport)
        self._sender.attach(stream)
        if self.error is not None:
            stream.abort()
            return
        found = transport.get_extra_info("socket")
        if found is not None and found.family != socket.AF_UNIX:
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.heard_at = self._time()
        self._arm(self.heard_at + _IDLE_S)
        _LIVING.add(self)

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._time()
        self._refusing = self.error is not None
        self._reader.feed(data)
        self._buffered += len(data)
        try:
            self._take()
        except hiredis.ProtocolError:
            self._break("sent something that is no reply", _CHECK)
        if self._buffered > self._limits.reply_bytes:
            self._break("sent a reply that is too large", "look for what stored it")

    def pause_writing(self) -> None:
        self._sender.pause()

    def resume_writing(self) -> None:
        self._sender.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, ssl.SSLError):  # TLS 1.3 tells only now what it has against us
            self._end(explain(self.where, exc))
        self._break("reset the connection" if exc else "closed the connection", _LOOK)
        if not self.ended.done():
            self.ended.set_result(None)

    def _take(self) -> None:
        """Hands out what has come."""
        reader, waiting = self._reader, self._waiting
        while (reply := reader.gets()) is not _NOTHING:
            self._buffered = 0
            if type(reply) is _PUSH and self._pushed(reply):
                continue
            if not waiting:
                self._break("sent a reply that nobody asked for", _CHECK)
                return
            future, replies, _ = waiting[0]
            if replies == 1:
                waiting.popleft()
                if future is not None and not future.done():
                    future.set_result([reply])
            else:
                self._gather(reply)

    def _gather(self, reply: object) -> None:
        future, replies, _ = self._waiting[0]
        self._parts.append(reply)
        if len(self._parts) == replies:
            parts, self._parts = self._parts, []
            self._waiting.popleft()
            if future is not None and not future.done():
                future.set_result(parts)

    def _pushed(self, push: list[object]) -> bool:
        """Whether it was a push; the answer to SUBSCRIBE comes as one, and is a reply."""
        if push and push[0] == b"subscribe":
            return False
        self._owner.heard(push)
        return True

    # time

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        """The only timer: deadlines, the watchdog, the ping of an idle connection."""
        now = self._time()
        self._timer = None
        if now - self._due > _LATE_S and not self._excused:
            self._excused = True  # what came while the loop stood still is read first
            self._arm(now + _GRACE_S)
            return
        self._excused = False
        if not self._waiting:
            if now - self.heard_at >= _IDLE_S:
                self._ping(now)
            else:
                self._arm(self.heard_at + _IDLE_S)
            return
        oldest = self._waiting[0][2]
        silent_since = max(oldest, self.heard_at)
        ends = silent_since + min(2 * self._deadline_s, _SILENT_S)
        if now >= ends:
            self._break(f"has not answered for {1000 * (now - oldest):.0f} ms", _LOOK, "slow")
            return
        self._arm(min(ends, self._expire(now)))

    def _expire(self, now: float) -> float:
        """Fails what ran out of time; when the next one does."""
        count = 0
        due = now + self._deadline_s
        known = self._overdue
        for future, _, since in self._waiting:
            if since + self._deadline_s > now:
                due = since + self._deadline_s
                break
            if since > known:
                self._overdue = since
                count += 1
                if future is not None and not future.done():
                    future.set_exception(self._deadline_error())
        if count:
            self._refusing = self.heard_at <= self._waiting[0][2]
            self._owner.late(count)
        return due

    def _ping(self, now: float) -> None:
        self._waiting.append((None, 1, now))
        self._sender.send(_PING, at_once=True)
        self._arm(now + self._deadline_s)

    # errors and the end

    def _deadline_error(self) -> DeadlineError:
        milliseconds = 1000 * self._deadline_s
        return DeadlineError(
            f"Redis at {self.where} did not answer within {milliseconds:.0f} ms", remedy=_LOOK
        )

    def _refusal(self) -> UnreachableError:
        if self.error is not None:
            again = self.error
            return UnreachableError(str(again), remedy=again.remedy, code=again.code)
        if self._refusing:
            silent = 1000 * (self._time() - self.heard_at)
            return UnreachableError(
                f"Redis at {self.where} has not answered for {silent:.0f} ms",
                remedy=_LOOK,
                code="slow",
            )
        return UnreachableError(
            f"Redis at {self.where} does not keep up: too much waits to be sent",
            remedy="store smaller values, or fewer at a time",
            code="busy",
        )

    def _break(self, what: str, remedy: str, code: str = "closed") -> None:
        self._end(UnreachableError(f"Redis at {self.where} {what}", remedy=remedy, code=code))

    def _end(self, error: UnreachableError) -> None:
        if self.error is not None:
            return
        self.error = error
        self._refusing = True
        if self._timer is not None:
            self._timer.cancel()
        self._sender.end()
        if self._transport is not None:
            self._transport.abort()
        elif not self.ended.done():
            self.ended.set_result(None)
        self._owner.lost(self, error)
        waiting, self._waiting = self._waiting, deque()
        for future, _, _ in waiting:
            if future is not None and not future.done():
                future.set_exception(self._refusal())


_LIVING: Final[weakref.WeakSet[Connection]] = weakref.WeakSet()


def _disown_all() -> None:
    for connection in list(_LIVING):
        connection.disown()


os.register_at_fork(after_in_child=_disown_all)
