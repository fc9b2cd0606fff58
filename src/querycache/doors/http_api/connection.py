"""The server under the routes: uvicorn with bounds on what a connection may cost.

uvicorn bounds neither the size of a request's head nor the time that it takes to arrive, and ends
with the signal that stopped it; here a head has both bounds, and a signal ends the server well.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from querycache.doors.http_api.guard import MOST_HEAD_BYTES

HEAD_WITHIN_S = 10.0
MOST_CONNECTIONS = 256
_GRACE_S = 5


class BoundedConnection(HttpToolsProtocol):
    """A connection that is closed if a head is too large (431) or too slow to come (408)."""

    _in_head = True
    _head_bytes = 0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self._end("431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._disarm()
        self._in_head = False
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._disarm()
        self._in_head = True
        self._head_bytes = 0
        self._deadline = self.loop.call_later(HEAD_WITHIN_S, self._end, "408 Request Timeout")

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    def _end(self, status: str) -> None:
        if not self.transport.is_closing():
            answer = f"HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            self.transport.write(answer.encode())
            self.transport.close()


class Server(uvicorn.Server):
    """A server that SIGINT and SIGTERM end well; a second signal ends it at once."""

    def __init__(self, app: ASGIApp, when_started: Callable[[], None] = lambda: None) -> None:
        self._when_started = when_started
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedConnection,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # whoever asks is who is at the other end
                server_header=False,
                limit_concurrency=MOST_CONNECTIONS,
                timeout_graceful_shutdown=_GRACE_S,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Waits for answers that are under way; for those without an end, after the application's
        `ending`, a function in the state of its lifespan.
        """
        self.lifespan.state.get("ending", lambda: None)()
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._when_started()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        for number in signals:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `OSError`."""
    family, kind, proto, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    made = socket.socket(family, kind, proto)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(1024)
    except OSError:
        made.close()
        raise
    made.setblocking(False)
    return made
