"""warm: what it asks, what it says, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from tests.doors.cli_kit import Cli, command, environment, write

from querycache.assembly import App
from querycache.config import load_config
from querycache.doors.cli.main import INTERRUPTED

WARMED = {"loaded", "skipped", "failed", "bytes", "took_ms"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUERYCACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def cli(home: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    assert not home.exists()
    return Cli(capsys)


@pytest.fixture
def shop(tmp_path: Path, cli: Cli) -> Path:
    """An indexed project."""
    root = write(tmp_path / "shop")
    assert cli("index", str(root)).status == 0
    return root


@pytest.mark.usefixtures("shop")
def test_a_file_of_queries_is_asked_by_the_normal_path(tmp_path: Path, cli: Cli):
    queries = tmp_path / "queries.txt"
    queries.write_text('read settings\n\n{"query": "save a record", "limit": 3}\n')
    done = cli("warm", "shop", "--queries", str(queries), "--json").json
    assert done.keys() >= WARMED
    assert (done["loaded"], done["skipped"], done["failed"]) == (3, 0, 0)
    again = cli("warm", "shop", "--queries", str(queries))
    assert again.out.startswith("0 loaded, 3 skipped, 0 failed; ")
    assert again.err == ""
    found = cli("search", "save a record", "-k", "3", "--json").json
    assert found["cache"]["tier"] == "l2"
    popular = cli("warm", "shop", "--json").json
    assert (popular["loaded"], popular["skipped"]) == (0, 2)


def test_what_changed_is_indexed_first(shop: Path, cli: Cli):
    (shop / "app" / "tax.py").write_text("def add_tax(price):\n    return price * 1.19\n")
    done = cli("warm", "shop")
    assert done.out.rstrip().endswith("; 1 changed files indexed first")
    assert "nothing was asked of it yet; --queries FILE" in done.err
    assert cli("search", "add tax", "--json").json["results"][0]["symbol"] == "add_tax"


@pytest.mark.usefixtures("shop")
def test_what_stopped_it_and_what_failed_is_told(tmp_path: Path, cli: Cli):
    late = cli("warm", "shop", "--budget-s", "0")
    assert late.out.splitlines()[1:] == ["1 left: --budget-s is spent; another run goes on there"]
    full = cli("warm", "shop", "--budget-mb", "0", "--json").json
    assert (full["left"], full["stopped"]) == (1, "bytes")
    assert cli("warm", "other").status == 1
    queries = tmp_path / "queries"
    assert cli("warm", "shop", "--queries", str(queries)).status == 2
    queries.write_text('fine\n{"query": "x", "limit": 1000}\n')
    wrong = cli("warm", "shop", "--queries", str(queries))
    assert (wrong.status, "line 2" in wrong.err) == (2, True)


@pytest.mark.usefixtures("shop")
def test_a_log_that_is_off_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    cli("search", "read settings")
    monkeypatch.setenv("CACHE_QUERY_LOG_ENABLED", "false")
    done = cli("warm", "shop")
    assert done.out.startswith("1 loaded, ")
    assert "CACHE_QUERY_LOG_ENABLED" in done.err


@pytest.mark.usefixtures("shop")
def test_without_a_shared_tier_nothing_lasts(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CACHE_LEVEL", "L1_MEMORY")
    assert "the shared tier is off: the answers end with this command" in cli("warm", "shop").err


@pytest.mark.asyncio
@pytest.mark.usefixtures("shop")
async def test_a_living_server_is_told_of():
    served = App(load_config(environment()).config, door="serve")
    try:
        await served.keep_house()
        process = subprocess.run(  # noqa: ASYNC221 -- the server has nothing to do meanwhile
            command("warm", "shop", "--json"), capture_output=True, text=True, check=True
        )
    finally:
        await served.close()
    assert (
        f"serve {os.getpid()} finds the answers in the shared tier; POST /warm" in process.stderr
    )


@pytest.mark.live
@pytest.mark.usefixtures("shop")
def test_ctrl_c_ends_it_in_one_line_and_nothing_is_lost(tmp_path: Path, cli: Cli):
    queries = tmp_path / "queries"
    many = 4000
    queries.write_text("".join(f"question {number}\n" for number in range(many)))
    words = ("warm", "shop", "--queries", str(queries))
    with subprocess.Popen(
        command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        told = process.stderr.readline()  # after three seconds
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert told.startswith("warming: ")
    done = int(told.split()[1])
    assert (process.returncode, out) == (INTERRUPTED, "")
    assert err.splitlines()[-1] == "stopped; what was done so far is kept"
    assert 0 < done < many
    queries.write_text("".join(f"question {number}\n" for number in range(done - 4)))
    again = cli(*words, "--json").json
    assert (again["loaded"], again["skipped"]) == (0, done - 3)
