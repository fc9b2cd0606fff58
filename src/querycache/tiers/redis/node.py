"""One server, as one event loop reaches it: connected when first needed, and again when lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Final

from querycache.clock import Clock
from querycache.errors import TierError
from querycache.ports.tiers import Pool
from querycache.tiers.breaker import Breaker, Failure
from querycache.tiers.redis.connection import Connection, Limits
from querycache.tiers.redis.endpoint import Endpoint
from querycache.tiers.redis.greeting import connect, pack
from querycache.tiers.redis.link import (
    DeadlineError,
    Greeting,
    Listener,
    Reply,
    UnreachableError,
)

Resolve = Callable[[], Awaitable[Endpoint]]
"""Where the server is now; asked before each attempt to connect. Raises `TierError`."""

Accept = Callable[[Connection], Awaitable[None]]
"""Looks at a new connection before it is used; raises `TierError` to refuse it."""

_PING: Final = pack("PING")


def fixed(endpoint: Endpoint) -> Resolve:
    """For a server that stays where it is."""

    async def resolve() -> Endpoint:
        return endpoint

    return resolve


class RedisNode:
    """A server. Who calls while it is down is refused at once; a task of the node, started by the
    first call, tries to reach it, and ends with `close` or with its loop.

    Attributes:
        where: The address as last resolved.
        connection: What calls travel on; None while there is none, or the breaker is open.
        opened: How many connections were made so far.
    """

    def __init__(  # noqa: PLR0913 -- parts, all but two by name
        self,
        resolve: Resolve,
        greeting: Greeting,
        *,
        clock: Clock,
        listener: Listener | None = None,
        accept: Accept | None = None,
        limits: Limits | None = None,
        where: str = "?",
    ) -> None:
        """`where` stands for the address until it was resolved."""
        self.where = where
        self.connection: Connection | None = None
        self.opened = 0
        self.limits = limits or Limits()
        self._resolve = resolve
        self._greeting = greeting
        self._clock = clock
        self._listener = listener
        self._accept = accept
        self._breaker = Breaker(clock)
        self._breaker.failed("hard")
        self._live: Connection | None = None  # accepted and not lost
        self._down: TierError | None = None
        self._tried = asyncio.Event()
        self._changed = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._closed = self._gone = False

    def call(self, data: bytes, replies: int = 1) -> Awaitable[list[Reply]]:
        """Sends; the replies in order. The first call waits for the connection.

        Raises:
            UnreachableError: At once while the server is down; or when awaited.
            DeadlineError: When awaited.
        """
        if self.connection is not None:
            return self.connection.call(data, replies)
        if self._down is not None:
            raise self._refusal(self._down)
        return self._first_call(data, replies)

    async def reach(self) -> Connection:
        """The connection, made if this is the first call. Waits no longer than the deadline."""
        if self._closed:
            raise self._ended()
        if self._keeper is None or self._keeper.done():
            self._start()
        waits = self.connection is None and self._down is None
        if waits:
            await self._tried.wait()
        if self.connection is not None:
            return self.connection
        if waits and isinstance(self._down, DeadlineError):
            raise self._too_slow()
        raise self._refusal(self._down or self._ended())

    def pool(self) -> Pool:
        """Its one connection, in use while something waits for a reply."""
        up = self.connection is not None
        busy = self.connection is not None and self.connection.waiting > 0
        return Pool(created=int(up), available=int(up and not busy), in_use=int(busy), most=1)

    async def close(self) -> None:
        """Ends the connection and the task. May be called twice."""
        self._closed = True
        live, keeper = self._live, self._keeper
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        if live is not None:
            await live.ended

    # what its connection reports

    def heard(self, push: list[object]) -> None:
        if self._listener is not None:
            self._listener.heard(push)

    def late(self, count: int) -> None:
        if any(self._breaker.failed("soft") for _ in range(count)):
            self.connection = None
            self._down = UnreachableError(
                f"Redis at {self.where} is too slow: calls ran out of time", code="slow"
            )
            self._changed.set()

    def lost(self, connection: Connection, error: UnreachableError) -> None:
        if connection is not self._live:
            return
        self._live = self.connection = None
        self._down = error
        self._breaker.failed("hard")
        self._changed.set()
        if self._listener is not None and connection.hearing != "deaf":
            self._listener.left(connection, gone=self._gone)

    # the task

    def _start(self) -> None:
        self._tried.clear()
        self._down = None
        self._gone = False
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(self.limits.deadline_s, self._give_up)
        # a context of its own: not the first caller's
        self._keeper = loop.create_task(
            self._keep(loop), name="querycache: Redis connection", context=Context()
        )
        # a loop that is closed without cancelling its tasks is no fault of ours to report
        self._keeper._log_destroy_pending = False  # pyright: ignore[reportAttributeAccessIssue]  # noqa: SLF001

    def _give_up(self) -> None:
        """Nobody waits longer for the first attempt, which goes on."""
        if not self._tried.is_set():
            self._down = self._too_slow()
            self._tried.set()

    async def _keep(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while True:
                if not self._breaker.open:
                    self._changed.clear()
                    await self._changed.wait()
                elif self._breaker.probe():
                    self._breaker.probed(await self._probe())
                    self._tried.set()
                else:
                    await self._clock.sleep(self._breaker.wait())
        finally:
            self._end(loop)

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        self._gone = True
        if self._patience is not None:
            self._patience.cancel()
        live = self._live
        if live is None:
            pass
        elif loop.is_closed():
            self.lost(live, self._ended())
        else:
            live.close()
        self._down = None  # the next call starts anew
        self._keeper = None
        self._tried.set()

    async def _probe(self) -> Failure | None:
        connection = self._live
        try:
            if connection is None:
                connection = await self._connect()
            else:
                await connection.call(_PING)
        except TierError as error:
            self._down = error
            return "soft" if isinstance(error, DeadlineError) else "hard"
        except Exception as error:  # noqa: BLE001 -- whatever a hook raised, we try again
            self._down = UnreachableError(
                f"Error connecting to Redis at {self.where}: {type(error).__name__}"
            )
            return "hard"
        if self._live is None:
            return "hard"
        self._down = None
        self.connection = connection
        return None

    async def _connect(self) -> Connection:
        started = self._clock.monotonic()
        endpoint = await self._resolved()
        self.where = endpoint.where
        connection = await connect(endpoint, self._greeting, self, self.limits)
        self.opened += 1
        try:
            if self._clock.monotonic() - started > self.limits.deadline_s:
                await connection.call(_PING)  # it may only just have woken up
            if self._accept is not None:
                await self._accept(connection)
        except BaseException:
            connection.close()
            raise
        if connection.error is not None:
            raise connection.error
        self._live = connection
        if self._listener is not None and connection.hearing != "deaf":
            self._listener.joined(connection)
        return connection

    async def _resolved(self) -> Endpoint:
        try:
            async with asyncio.timeout(self.limits.patience_s):
                return await self._resolve()
        except TimeoutError:
            raise self._too_slow() from None

    async def _first_call(self, data: bytes, replies: int) -> list[Reply]:
        ends = asyncio.get_running_loop().time() + self.limits.deadline_s
        connection = await self.reach()
        try:
            async with asyncio.timeout_at(ends):
                return await connection.call(data, replies)
        except TimeoutError:
            raise self._too_slow() from None

    # errors

    def _too_slow(self) -> DeadlineError:
        milliseconds = 1000 * self.limits.deadline_s
        return DeadlineError(
            f"Error connecting to Redis at {self.where}: no answer within {milliseconds:.0f} ms",
            remedy="look into the server's log and its load, and whether the port speaks TLS",
        )

    def _ended(self) -> UnreachableError:
        return UnreachableError(f"Redis at {self.where}: closed here", code="closed")

    @staticmethod
    def _refusal(error: TierError) -> UnreachableError:
        code = error.code if isinstance(error, UnreachableError) else "slow"
        return UnreachableError(str(error), remedy=error.remedy, code=code)
