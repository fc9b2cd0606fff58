"""The doctor as people, programs and models call it, beside a process that lives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.doors.cli_kit import Ended, spawn, write
from tests.live.cgroups import Cgroup, limited
from tests.live.serving import Served, ask, served
from tests.redis_kit import free_port

pytestmark = [pytest.mark.live, pytest.mark.timeout(90)]

QUESTION = "where are settings read"
LIVING = """
import asyncio, sys
from querycache.assembly import App
from querycache.config import load_config
from querycache.observe.memory_pressure import ProcessMemory

async def hungry(app):
    held, memory = [], ProcessMemory()
    while memory.read().share < 0.84:
        held.append(b"x" * 500_000)
    return held

async def unlucky(app):
    for number in range(130):
        await app.remember.get(f"report:{number}")

async def main():
    app = App(load_config().config, door="python")
    held = await globals()[sys.argv[1]](app)
    async with app.running():
        while not app.registry.living():
            await asyncio.sleep(0.02)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
    await app.close()

asyncio.run(main())
"""


@contextmanager
def living(home: Path, what: str, cgroup: Cgroup | None = None) -> Generator[None]:
    """A process that has done something, and lives."""
    command = [sys.executable, "-c", LIVING, what]
    process = subprocess.Popen(
        cgroup.within(command) if cgroup else command,
        env={**os.environ, "QUERYCACHE_HOME": str(home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.communicate(b"\n")


def names(ended: Ended) -> list[str]:
    """What a command found that makes a system unwell."""
    found = json.loads(ended.out)["findings"]
    return [one["name"] for one in found if one["severity"] != "info"]


def doctor(folder: Path, home: Path, **variables: str) -> Ended:
    return spawn(["doctor", "--json"], cwd=folder, QUERYCACHE_HOME=str(home), **variables)


def test_beside_a_server_that_lives(tmp_path: Path):
    home, root = tmp_path / "home", write(tmp_path / "shop")
    with served(home, root) as server:
        server.ready(QUESTION, "shop")
        well = doctor(tmp_path, home)
        assert (well.status, names(well)) == (0, [])
        assert ask(f"{server.url}/doctor")["findings"] == []
        stopped(server, root, tmp_path)


def test_a_process_whose_reads_miss(tmp_path: Path):
    home = tmp_path / "home"
    with living(home, "unlucky"):
        ended = doctor(tmp_path, home)
    assert (ended.status, names(ended)) == (1, ["hit_rate.low"])
    (found,) = json.loads(ended.out)["findings"]
    assert "0.0% of 130 reads hit" in found["evidence"]
    assert "130 absent" in found["evidence"]


def stopped(server: Served, root: Path, folder: Path) -> None:
    """While the server is stopped, an edit reaches no index."""
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        (root / "app/store.py").write_text("def forget_record(path):\n    path.unlink()\n")
        ended = doctor(folder, folder / "home")
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    assert (ended.status, names(ended)) == (1, ["index.stale"])
    (found,) = json.loads(ended.out)["findings"]
    assert f"serve {server.process.pid} is stopped" in found["evidence"]
    assert found["remedy"].startswith(f"kill -CONT {server.process.pid}")


def test_a_process_whose_memory_is_short(tmp_path: Path):
    home = tmp_path / "home"
    with limited(128) as cgroup, living(home, "hungry", cgroup):
        ended = doctor(tmp_path, home)
    assert (ended.status, names(ended)) == (1, ["memory.pressure"])


def test_settings_that_are_wrong_do_not_stop_the_rest(tmp_path: Path):
    port = str(free_port())
    variables = {"CACHE_LEVEL": "L3", "REDIS_HOST": "127.0.0.1", "REDIS_PORT": port}
    ended = spawn(["doctor"], cwd=tmp_path, QUERYCACHE_HOME=str(tmp_path / "home"), **variables)
    assert ended.status == 1
    assert "error  redis.unreachable\n" in ended.out
    assert "error  config.invalid\n  configuration: CACHE_LEVEL='L3'" in ended.out
    assert "2 findings; 15 checks in" in ended.out


def test_the_report_of_a_redis_that_is_down(tmp_path: Path):
    port = str(free_port())
    variables = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": port, "REDIS_PASSWORD": "s3cret"}
    home = str(tmp_path / "home")
    ended = spawn(["report"], cwd=tmp_path, QUERYCACHE_HOME=home, **variables)
    assert ended.status == 0
    assert ended.out.splitlines()[:6] == [
        "=== Cache Diagnostic Report ===",
        "Health Status: degraded",
        "Redis Connected: False",
        "Hit Rate: 0.0%",
        "Total Operations: 0",
        "Error Count: 0",
    ]
    assert "error  redis.unreachable\n" in ended.out
    assert "REDIS_PASSWORD" in ended.out
    assert "s3cret" not in ended.out + ended.err
