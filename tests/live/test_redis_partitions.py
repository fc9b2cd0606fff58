"""Packets that are dropped, as a network does it: half-open connections, loss, partitions.

The server lives in a network namespace, and nft drops what comes in there. Wants root, ip and nft.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

import pytest
from tests.live.fault_judge import now
from tests.live.fault_kit import LOCKED, SECRET, sizes, under_load
from tests.redis_kit import RedisServer, until

pytestmark = [pytest.mark.asyncio, pytest.mark.live, pytest.mark.timeout(60)]

BUSY_S = 0.75
BACK_OFF_S = 2.0


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


@asynccontextmanager
async def far_server(folder: Path) -> AsyncGenerator[FarServer]:
    """Skips the test, with the reason, where there can't be one."""
    if why := _missing():
        pytest.skip(why)
    apart = Apart()
    apart.make()
    server = FarServer(folder, apart, *LOCKED)
    try:
        await server.start()
        yield server
    finally:
        server.stop()
        apart.remove()


@pytest.mark.parametrize("count", sizes(1, 30))
async def test_packets_of_connections_are_dropped(count: int, tmp_path: Path):
    """Half-open: no end of the connection is heard of; L1 is not served beyond two seconds."""
    async with far_server(tmp_path) as server:
        urls = [server.url] * 2
        async with under_load("F06", 66, tmp_path, *urls, what="packets dropped (nft)") as stage:
            for _ in range(count):
                await asyncio.sleep(0.2)
                async with stage.outage():
                    server.apart.drop(f"tcp dport {server.port}")
                    dropped = now()

                    async def noticed() -> bool:
                        return all(app.core.generations.deaf for app in stage.apps)

                    await until(noticed, "both are deaf", 5)
                    stage.found.most("noticed_after_s", now() - dropped)
                    if now() - dropped > BACK_OFF_S + BUSY_S:
                        stage.found.wrong(f"I4 noticed after {now() - dropped:.2f} s")
                    await asyncio.sleep(stage.random.uniform(0.2, 1.0))
                    server.apart.heal()
                await stage.healed(BACK_OFF_S + BUSY_S)


@pytest.mark.parametrize("count", sizes(60, 1000))
async def test_a_quarter_of_the_packets_is_lost(count: int, tmp_path: Path):
    async with far_server(tmp_path) as server:
        urls = [server.url] * 2
        what = "25 % of packets lost (nft)"
        async with under_load("F07", 77, tmp_path, *urls, what=what) as stage:
            done = stage.found.operations + count
            stage.limit_s += 1.0  # several waits of one deadline each, and TCP's own
            with stage.judge.trouble():
                server.apart.drop(f"tcp dport {server.port} numgen random mod 4 == 0")

                async def enough() -> bool:
                    return stage.found.operations >= done

                await until(enough, "operations", 120)
                await asyncio.sleep(1.0)
                server.apart.heal()
            await stage.healed(4.0 + BUSY_S)
