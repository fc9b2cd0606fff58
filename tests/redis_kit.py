"""Real redis-server processes for tests: on free loopback ports, in memory, killed at the end."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server") or "redis-server"
"""The Makefile installs it."""

_PATIENCE_S = 10.0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class RedisServer:
    """One server; `start` after `kill` gives an empty one on the same port."""

    def __init__(self, folder: Path, *options: str) -> None:
        """`options` are lines of configuration as arguments: `--maxmemory 3mb` is two of them."""
        self.folder = folder
        self.port = free_port()
        self.socket = folder / "redis.sock"
        self.options = options
        self.process: Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            PROGRAM,
            *("--bind", "127.0.0.1", "--port", str(self.port), "--unixsocket", str(self.socket)),
            *("--save", "", "--appendonly", "no", "--dir", str(self.folder)),
            *self.options,
            stdout=DEVNULL,
        )
        await self.answers()

    async def answers(self) -> None:
        """Returns when it takes connections."""
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                try:
                    _, writer = await asyncio.open_unix_connection(str(self.socket))
                except OSError:
                    await asyncio.sleep(0.01)
                else:
                    writer.close()
                    await writer.wait_closed()
                    return

    async def kill(self) -> None:
        """kill -9; what it held is gone."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        self.socket.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Stops it without closing anything, until `thaw`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def redis_server(*options: str) -> AsyncGenerator[RedisServer]:
    """A running server, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="qc-redis-") as folder:  # short, for the socket's path
        server = RedisServer(Path(folder), *options)
        await server.start()
        try:
            yield server
        finally:
            await server.kill()
