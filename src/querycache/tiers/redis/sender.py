"""The way out of a connection: what is asked in one turn of the loop leaves in one write."""

from __future__ import annotations

import asyncio
from typing import Final

_SLICE: Final = 256 * 1024
_NONE: Final[memoryview[int]] = memoryview(b"")


class Sender:
    """Collects requests and hands them to the transport; bounded in bytes.

    Attributes:
        waiting_bytes: What the transport has not taken yet.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int) -> None:
        """`limit` in bytes."""
        self.waiting_bytes = 0
        self._loop = loop
        self._limit = limit
        self._transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []
        self._rest: memoryview[int] = _NONE  # of a write that the transport could not take at once
        self._paused = True

    def attach(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._paused = False

    def send(self, data: bytes, *, at_once: bool) -> bool:
        """Sends at the end of this turn of the loop, or `at_once` where nothing else waits.

        False, and nothing is sent, if more would wait than the limit allows.
        """
        size = len(data)
        if self.waiting_bytes + size > self._limit:
            return False
        if at_once and size <= _SLICE and not (self._paused or self.waiting_bytes):
            assert self._transport is not None  # noqa: S101 -- else paused
            self._transport.write(data)
            return True
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)
        self.waiting_bytes += size
        return True

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._flush()

    def end(self) -> None:
        """Forgets what it has."""
        self._paused = True
        self._transport = None
        self._waiting.clear()
        self._rest = _NONE

    def _flush(self) -> None:
        transport = self._transport
        while transport and not (self._paused or transport.is_closing()) and self.waiting_bytes:
            if not self._rest:
                waiting, self._waiting = self._waiting, []
                data = waiting[0] if len(waiting) == 1 else b"".join(waiting)
                self._rest = memoryview(data)
            # in slices, since the transport copies what it can't send, again and again
            piece, self._rest = self._rest[:_SLICE], self._rest[_SLICE:]
            self.waiting_bytes -= len(piece)
            transport.write(piece)
