"""`serve`: what it refuses to start with, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.doors.http_kit import Peer, config_in, sample

from querycache.assembly.app import App
from querycache.doors.http_api.app import serve
from querycache.doors.http_api.connection import listen
from querycache.errors import NotAvailableError, UsageError

pytestmark = pytest.mark.asyncio

SERVE = """
import asyncio, sys
from querycache.assembly.app import App
from querycache.config import load_config
from querycache.doors.http_api.app import serve

def started(address):
    print(address, flush=True)

host, *roots = sys.argv[1:]
app = App(load_config().config, door="http")
asyncio.run(serve(app, roots, host=host, port=0, started=started))
print("ended", flush=True)
"""


class Started(NamedTuple):
    """A process, and what it serves."""

    process: Process
    peer: Peer


async def test_a_taken_port_is_told(tmp_path: Path):
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        taken_error = f"127.0.0.1:{port}: Address already in use"
        with pytest.raises(NotAvailableError, match=taken_error) as told:
            await serve(App(config_in(tmp_path)), [], port=port)
    assert "--port" in told.value.remedy


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 -- what is refused
async def test_other_machines_need_a_token(tmp_path: Path, host: str):
    if host == "::" and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with pytest.raises(UsageError, match="no token is set") as told:
        await serve(App(config_in(tmp_path)), [], host=host, port=0)
    assert "QUERYCACHE_TOKEN" in told.value.remedy


async def test_a_root_that_is_no_folder_is_told(tmp_path: Path):
    with pytest.raises(UsageError, match="is not a folder"):
        await serve(App(config_in(tmp_path)), [str(tmp_path / "nothing")], port=0)


async def test_an_address_that_is_none_is_told(tmp_path: Path):
    with pytest.raises(NotAvailableError, match="can't listen") as told:
        await serve(App(config_in(tmp_path)), [], host="256.0.0.1", port=0)
    assert "--host" in told.value.remedy


@asynccontextmanager
async def started(folder: Path, *arguments: str, **variables: str) -> AsyncGenerator[Started]:
    """A server process that answers requests."""
    own = {"QUERYCACHE_HOME": str(folder / "home"), **variables}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SERVE,
        *arguments,
        env={**os.environ, **own},  # noqa: TID251 -- a child's
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(25):
            address = (await process.stdout.readline()).decode().strip()
        yield Started(process, Peer(App(config_in(folder)), int(address.rpartition(":")[2])))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.live
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_well(tmp_path: Path, number: signal.Signals):
    root = str(sample(tmp_path / "shop"))
    async with started(tmp_path, "127.0.0.1", root) as (process, peer):
        found = await peer.post("/search", {"query": "value added tax"})
        process.send_signal(number)
        async with asyncio.timeout(20):
            said, errors = await process.communicate()
    assert found.json["results"][0]["path"] == "billing/invoice.py"
    assert (process.returncode, said) == (0, b"ended\n"), errors.decode()
    assert b"Traceback" not in errors
    assert list((tmp_path / "home" / "registry").iterdir()) == []


@pytest.mark.live
async def test_with_a_token_other_machines_may_ask(tmp_path: Path):
    token = "a-token-of-the-test"  # noqa: S105 -- not a secret
    async with started(tmp_path, "0.0.0.0", QUERYCACHE_TOKEN=token) as (_, peer):  # noqa: S104 -- what is tested
        own = f"{socket.gethostname()}:{peer.port}"
        hosts = ("127.0.0.1", own, f"0.0.0.0:{peer.port}", "evil.example")
        strangers = [(await peer.get("/projects", Host=host)).status for host in hosts]
        given = {"Authorization": f"Bearer {token}"}
        friends = [(await peer.get("/projects", Host=host, **given)).status for host in hosts]
    assert strangers == [401, 401, 421, 421]
    assert friends == [200, 200, 421, 421]
