"""MCP over stdio: real processes, as editors start them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from tests.doors.http_kit import config_in, sample

from querycache.doors.mcp_server.answers import META_KEY
from querycache.doors.mcp_server.stdio import serve_stdio
from querycache.errors import UsageError

pytestmark = [pytest.mark.asyncio, pytest.mark.live, pytest.mark.timeout(90)]

SERVE = """
import asyncio, sys
from querycache.config import load_config
from querycache.doors.mcp_server.stdio import serve_stdio

asyncio.run(serve_stdio(load_config().config, sys.argv[1:]))
"""
START = """
import subprocess, sys

started = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
started.stdout.readline()
print(started.pid, flush=True)
"""
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


def parameters(folder: Path, *roots: Path) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable,
        args=["-c", SERVE, *map(str, roots)],
        env={"QUERYCACHE_HOME": str(folder / "home"), "XDG_DATA_HOME": str(folder / "data")},
    )


async def found(client: Client, query: str) -> tuple[set[str], str]:
    """The symbols that a search finds by name, and the tier that it came from."""
    result = await client.call_tool("search_code", {"query": query, "mode": "keyword"})
    assert not result.is_error, result
    assert result.structured_content
    assert result.meta
    symbols = {hit["symbol"] for hit in result.structured_content["results"]}
    return symbols, result.meta[META_KEY]["tier"]


async def test_three_servers_on_one_project_agree(tmp_path: Path):
    root = sample(tmp_path / "shop")
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(Client(parameters(tmp_path, root), mode=mode))
            for mode in ("auto", "legacy", "auto")
        ]
        first = await asyncio.gather(*(found(client, "total_with_tax") for client in clients))
        assert [symbols for symbols, _ in first] == [{"total_with_tax"}] * 3
        again = await asyncio.gather(*(found(client, "total_with_tax") for client in clients))
        assert [tier for _, tier in again] == ["l1"] * 3
        for turn, client in enumerate(clients):
            edited = f"def gross_price_{turn}(net):\n    return net\n"
            (root / "billing/invoice.py").write_text(edited)
            assert (await found(client, "total_with_tax"))[0] == set()
            for other in clients:
                assert (await found(other, f"gross_price_{turn}"))[0] == {f"gross_price_{turn}"}
        (root / "billing/refund.py").write_text("def refund_customer():\n    return 1\n")
        for client in clients:
            async with asyncio.timeout(20):
                while (await found(client, "refund_customer"))[0] != {"refund_customer"}:
                    pass


@asynccontextmanager
async def started(folder: Path, *roots: Path) -> AsyncGenerator[Process]:
    """A bare server process, past its handshake."""
    own = {"QUERYCACHE_HOME": str(folder / "home"), "XDG_DATA_HOME": str(folder / "data")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SERVE,
        *map(str, roots),
        env={**os.environ, **own},  # noqa: TID251 -- a child's
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        answer = await said(process, HELLO)
        assert answer["result"]["serverInfo"]["name"] == "querycache"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def said(process: Process, message: object) -> dict[str, Any]:
    """The next line of standard output, after a message."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(msgspec.json.encode(message) + b"\n")
    async with asyncio.timeout(40):
        return msgspec.json.decode(await process.stdout.readline())


def call(number: int, tool: str, arguments: dict[str, object]) -> dict[str, object]:
    params = {"name": tool, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


async def test_standard_output_carries_the_protocol_alone(tmp_path: Path):
    root = sample(tmp_path / "shop")
    async with started(tmp_path, root) as process:
        assert process.stdin
        process.stdin.write(b'{"jsonrpc": "2.0", "method": "notifications/initialized"}\n')
        answer = await said(process, call(2, "search_code", {"query": "value added tax"}))
        assert answer["id"] == 2
        assert not answer["result"].get("isError")
        process.stdin.write(b"no json\n\xff\xfe\n")
        answer = await said(process, call(3, "cache_explain", {"key": ""}))
        while answer.get("id") != 3:
            assert answer["jsonrpc"] == "2.0"
            answer = await said(process, {"jsonrpc": "2.0", "method": "notifications/none"})
        process.stdin.close()
        async with asyncio.timeout(20):
            rest, _ = await process.communicate()
    lines = [msgspec.json.decode(line) for line in rest.splitlines()]
    assert all(line["jsonrpc"] == "2.0" for line in lines)
    assert process.returncode == 0


@pytest.mark.parametrize("after_a_call", [False, True])
@pytest.mark.parametrize("how", ["eof", "term", "int"])
async def test_it_ends_well(tmp_path: Path, how: str, *, after_a_call: bool):
    root = sample(tmp_path / "shop")
    async with started(tmp_path, root) as process:
        assert process.stdin
        assert process.stderr
        if after_a_call:
            await said(process, call(2, "cache_health", {}))
        if how == "eof":
            process.stdin.close()
        else:
            process.send_signal(signal.SIGTERM if how == "term" else signal.SIGINT)
        async with asyncio.timeout(20):
            await process.wait()
            errors = await process.stderr.read()
    assert process.returncode == 0, errors.decode()
    assert b"Traceback" not in errors, errors.decode()
    assert not list((tmp_path / "home").glob("registry/*"))


async def test_it_does_not_outlive_who_started_it(tmp_path: Path):
    root = sample(tmp_path / "shop")
    reading, writing = os.pipe()
    try:
        starter = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            START,
            sys.executable,
            "-c",
            SERVE,
            str(root),
            stdin=reading,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "QUERYCACHE_HOME": str(tmp_path / "home")},  # noqa: TID251 -- a child's
        )
        os.write(writing, msgspec.json.encode(HELLO) + b"\n")
        answer, _ = await starter.communicate()
        pid = int(answer)
        async with asyncio.timeout(40):
            while psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie":  # noqa: ASYNC110 -- nothing tells
                await asyncio.sleep(0.05)
    finally:
        os.close(reading)
        os.close(writing)


async def test_at_a_terminal_ctrl_c_ends_it(tmp_path: Path):
    ours, its = os.openpty()
    started = parameters(tmp_path)
    process = await asyncio.create_subprocess_exec(
        started.command,
        *started.args,
        env={**os.environ, **(started.env or {})},  # noqa: TID251 -- handed on
        stdin=its,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        os.write(ours, b'{"jsonrpc":"2.0","id":7,"method":"ping"}\n')
        assert process.stdout is not None
        answer = msgspec.json.decode(await process.stdout.readline())
        assert answer == {"jsonrpc": "2.0", "id": 7, "result": {}}
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            assert await process.wait() == 0  # and nobody typed a line
    finally:
        os.close(ours)
        os.close(its)


async def test_a_root_that_is_no_folder_is_told(tmp_path: Path):
    with pytest.raises(UsageError, match="is not a folder"):
        await serve_stdio(config_in(tmp_path), [str(tmp_path / "nothing")])
