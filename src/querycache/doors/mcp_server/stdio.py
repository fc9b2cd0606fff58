"""MCP over stdio: the handshake is answered before anything heavy is loaded.

An editor waits for the handshake, so the App (and with it the stores, the model's libraries and
the first indexing) is built in a thread, when the first answer has gone out or the first tool asks
for it. Standard input is read without a thread where it is a pipe, since a thread that waits for a
line can't be ended.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.stdio import stdio_server

from querycache.doors.mcp_server.background import living
from querycache.doors.mcp_server.logs import log_to_stderr
from querycache.doors.mcp_server.server import mcp_server
from querycache.errors import UsageError

if TYPE_CHECKING:
    from querycache.assembly.app import App
    from querycache.config import Config

_LONGEST_LINE = 16 * 1024 * 1024
_PARENT_EVERY_S = 1.0
_AFTER_HANDSHAKE_S = 0.02

_logger = logging.getLogger(__name__)


async def serve_stdio(config: Config, roots: Sequence[str], *, watch: bool = True) -> None:
    """Serves one client until its end: standard input closes, SIGTERM or SIGINT comes, or the
    process that started this one is gone. Indexes `roots`, and with `watch` keeps them up to date.

    Raises `UsageError` for a root that is no folder.
    """
    for root in roots:
        if not Path(root).is_dir():  # noqa: ASYNC240 -- before anything runs
            raise UsageError(f"{root!r} is not a folder", remedy="name the folder of a project")
    log_to_stderr(config.watch.log_level, config.watch.log_format)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, ended.set)
    try:
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(_serve(_LateApp(config, roots, watch=watch), roots))
            serving.add_done_callback(lambda _: ended.set())
            orphaned = group.create_task(_orphaned(ended))
            await ended.wait()
            serving.cancel()
            orphaned.cancel()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


async def _serve(late: _LateApp, roots: Sequence[str]) -> None:
    server = mcp_server(late.get, roots, middleware=[late.greet])
    lowlevel = server._lowlevel_server  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # the public way reads with a thread
    options = lowlevel.create_initialization_options()
    async with asyncio.TaskGroup() as group:
        living = group.create_task(late.live())
        try:
            async with (
                _standard_input() as lines,
                stdio_server(cast("Any", lines)) as (reading, writing),
            ):
                await lowlevel.run(reading, writing, options)
        finally:
            late.end()
            await living


class _LateApp:
    """An App that is built when it is wanted."""

    def __init__(self, config: Config, roots: Sequence[str], *, watch: bool) -> None:
        self._config = config
        self._roots = roots
        self._watch = watch
        self._wanted = asyncio.Event()
        self._over = asyncio.Event()
        self._app: asyncio.Future[App] = asyncio.get_running_loop().create_future()

    async def get(self) -> App:
        """The App; raises what its building raised."""
        self._wanted.set()
        return await asyncio.shield(self._app)

    async def greet(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Middleware: after the first answer, the App may be built."""
        try:
            return await call_next(ctx)
        finally:
            if not self._wanted.is_set():
                loop = asyncio.get_running_loop()
                loop.call_later(_AFTER_HANDSHAKE_S, self._wanted.set)

    def end(self) -> None:
        """Lets `live` return."""
        self._over.set()
        self._wanted.set()

    async def live(self) -> None:
        """Builds the App, keeps it running, and closes it."""
        await self._wanted.wait()
        if self._over.is_set():
            return
        try:
            app = await asyncio.to_thread(_built, self._config)
        except Exception as error:
            _logger.exception("querycache could not be started")
            self._app.set_exception(error)
            self._app.exception()  # the log has it, whether a tool asks or not
            return
        async with living(app, self._roots, watch=self._watch):
            self._app.set_result(app)
            await self._over.wait()


def _built(config: Config) -> App:
    from querycache.assembly.app import App  # noqa: PLC0415 -- after the handshake

    return App(config, door="mcp")


async def _orphaned(ended: asyncio.Event) -> None:
    """Ends the server when the process that started it is gone."""
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110 -- nothing tells
        await asyncio.sleep(_PARENT_EVERY_S)
    ended.set()


@asynccontextmanager
async def _standard_input() -> AsyncGenerator[AsyncIterator[str] | None]:
    """The lines of standard input, which then is the null device for all else; None where it is no
    pipe, socket or terminal of its own, so that the SDK reads it.
    """
    wire = _own_input()
    if wire is None:
        yield None
        return
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    reader = asyncio.StreamReader(_LONGEST_LINE)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(wire, "rb", 0)
    )
    try:
        yield _lines(reader)
    finally:
        transport.close()


def _own_input() -> int | None:
    """A descriptor of standard input that may be set to not block: nothing else is behind it."""
    kind = os.fstat(0)
    if os.isatty(0):
        try:  # opened anew, since a terminal's descriptors 0, 1 and 2 are one
            return os.open(os.ttyname(0), os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            return None
    own = stat.S_ISFIFO(kind.st_mode) or stat.S_ISSOCK(kind.st_mode)
    if not own or os.path.samestat(kind, os.fstat(1)):
        return None
    return fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3)


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    while True:
        try:
            line = await reader.readline()
        except ValueError:
            _logger.warning("a message of more than %d bytes was dropped", _LONGEST_LINE)
            continue
        if not line:
            return
        yield line.decode("utf-8", "replace")
