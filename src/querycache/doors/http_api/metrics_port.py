"""A port of its own for metrics, behind the same guard as every route."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from socket import socket

from starlette.applications import Starlette

from querycache.doors.http_api.connection import Server


class _Companion(Server):
    """A server beside another one, which the signals end."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@asynccontextmanager
async def beside(application: Starlette, listener: socket | None) -> AsyncGenerator[None]:
    """Serves `application` on `listener` for the block; without one, nothing."""
    if listener is None:
        yield
        return
    started = asyncio.Event()
    server = _Companion(application, started.set)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(server.serve(sockets=[listener]))
        running.add_done_callback(lambda _: started.set())
        try:
            await started.wait()
            yield
        finally:
            server.should_exit = True
            await running
            listener.close()
