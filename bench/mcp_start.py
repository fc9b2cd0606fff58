"""How long an editor waits for the handshake over stdio: ours against a bare server of the SDK.

    python bench/mcp_start.py [ROUNDS]

A B A B in turn; medians and their ratio. A round is one process: its start, `initialize`, and the
answer. Ours serves a folder of this repository, through the module and through the command. The
goal is 1.3 times the bare server or less.
"""

from __future__ import annotations

import compileall
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BARE = """
from mcp.server import MCPServer

server = MCPServer("bare")


@server.tool()
def echo(text: str) -> str:
    return text


server.run()
"""
OURS = """
import asyncio, sys
from querycache.config import load_config
from querycache.doors.mcp_server.stdio import serve_stdio

asyncio.run(serve_stdio(load_config().config, sys.argv[1:]))
"""
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "bench", "version": "1"},
    },
}


def handshake(command: list[str], environ: dict[str, str]) -> float:
    """Seconds from the start of a process to its answer."""
    started = time.perf_counter()
    with subprocess.Popen(  # noqa: S603 -- our own programs
        command,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(HELLO).encode() + b"\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        took = time.perf_counter() - started
        process.stdin.close()
        process.wait()
    assert "serverInfo" in answer["result"], answer
    return took


def main(rounds: int) -> None:
    # As an installation does for the SDK; without, ours would be compiled at each start where
    # PYTHONDONTWRITEBYTECODE is set.
    compileall.compile_dir(str(ROOT / "src"), quiet=1)
    folder = str(ROOT / "src" / "querycache" / "usecases")
    python = sys.executable
    commands = {
        "bare server of the SDK": [python, "-c", BARE],
        "querycache, the module": [python, "-c", OURS, folder],
        "querycache mcp": [python, "-m", "querycache", "mcp", folder],
    }
    took: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as home:
        environ = {**os.environ, "QUERYCACHE_HOME": home}
        for turn in range(rounds + 1):
            for name, command in commands.items():
                seconds = handshake(command, environ)
                if turn:  # the first round fills the file system's cache
                    took[name].append(seconds)
    control = statistics.median(took["bare server of the SDK"])
    print(f"{'handshake over stdio':28} {'median':>9} {'min':>9} {'ratio':>7}")
    for name, seconds in took.items():
        median = statistics.median(seconds)
        ratio = median / control
        print(f"{name:28} {median:8.3f}s {min(seconds):8.3f}s {ratio:7.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
