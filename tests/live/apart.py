"""Servers in a network namespace, and packets that are dropped there, as a network does it.

Wants root, ip and nft.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path

import pytest
from tests.live.fault_kit import LOCKED, SECRET
from tests.redis_kit import RedisServer


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@cache
def _missing() -> str:
    """Why none can be made here; "" where one can."""
    if os.geteuid() != 0:
        return "network namespaces want root"
    missing = [tool for tool in ("ip", "nft") if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    try:
        apart = Apart()
        apart.make()
        apart.remove()
    except subprocess.CalledProcessError as error:
        return f"no network namespace here: {error.stderr.decode().strip()}"
    return ""


class Apart:
    """A network namespace with a way to us: `here` and `there` are the ends' addresses."""

    def __init__(self) -> None:
        token = secrets.token_hex(3)
        self.name = f"qc{token}"
        net = 10_000 + secrets.randbelow(20_000)
        self.here = f"10.{net // 256}.{net % 256}.1"
        self.there = f"10.{net // 256}.{net % 256}.2"

    def make(self) -> None:
        a, b = f"{self.name}a", f"{self.name}b"
        _run("ip", "netns", "add", self.name)
        _run("ip", "link", "add", a, "type", "veth", "peer", "name", b, "netns", self.name)
        _run("ip", "addr", "add", f"{self.here}/30", "dev", a)
        _run("ip", "link", "set", a, "up")
        self.inside("ip", "addr", "add", f"{self.there}/30", "dev", b)
        self.inside("ip", "link", "set", b, "up")
        self.inside("ip", "link", "set", "lo", "up")
        self.inside("nft", "add table inet f")
        self.inside("nft", "add chain inet f input { type filter hook input priority 0; }")

    def inside(self, *words: str) -> None:
        _run("ip", "netns", "exec", self.name, *words)

    def drop(self, what: str) -> None:
        """Drops what matches, from now on."""
        self.inside("nft", f"add rule inet f input {what} drop")

    def heal(self) -> None:
        self.inside("nft", "flush chain inet f input")

    def remove(self) -> None:
        subprocess.run(("ip", "netns", "del", self.name), check=False, capture_output=True)
        subprocess.run(("ip", "link", "del", f"{self.name}a"), check=False, capture_output=True)


class FarServer(RedisServer):
    """One that runs in a namespace."""

    def __init__(self, folder: Path, apart: Apart, *options: str) -> None:
        super().__init__(folder, *options)
        self.apart = apart

    @property
    def url(self) -> str:
        return f"redis://:{SECRET}@{self.apart.there}:{self.port}/0"

    def _command(self) -> Sequence[str | Path]:
        return ("ip", "netns", "exec", self.apart.name, *super()._command())

    def _arguments(self) -> Sequence[str]:
        return (*super()._arguments(), "--bind", f"{self.apart.there} 127.0.0.1")


@contextmanager
def apart() -> Generator[Apart]:
    """Skips the test, with the reason, where there can't be one."""
    if why := _missing():
        pytest.skip(why)
    made = Apart()
    made.make()
    try:
        yield made
    finally:
        made.remove()


@asynccontextmanager
async def far_server(folder: Path) -> AsyncGenerator[FarServer]:
    """A running server in a namespace of its own."""
    with apart() as where:
        server = FarServer(folder, where, *LOCKED)
        try:
            await server.start()
            yield server
        finally:
            server.stop()
