"""The command line as processes of their own: statuses, pipes, signals, help and start-up."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.doors.cli_kit import command, environment, spawn, write

from querycache.clock import SystemClock
from querycache.errors import ProjectNotFoundError
from querycache.origins.indexes import SqliteIndexes

pytestmark = pytest.mark.live

COMMANDS = (
    *("index", "search", "projects", "forget", "warm", "health", "stats", "keys", "explain"),
    *("coherency", "invalidate", "serve", "mcp", "demo", "bench", "replay"),
    *("config show", "config check", "models list", "models install"),
)
HEAVY = ("querycache.assembly", "apsw", "mcp", "numpy", "starlette", "tokenizers", "tree_sitter")
MANY = 1500


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUERYCACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.usefixtures("home")
def test_a_day_with_the_command_line(tmp_path: Path):
    root = write(tmp_path / "shop")
    indexed = spawn(["index", ".", "--json"], cwd=root)
    assert indexed.json["files"] == 4
    assert indexed.err == ""
    found = spawn(["search", "save a record", "--json"], cwd=root / "app")
    assert found.json["results"][0]["symbol"] == "save_record"
    assert spawn(["search", "save a record", "--json"]).json["cache"]["tier"] == "l2"
    assert spawn(["health"]).status == 0


def test_help_teaches_by_an_example():
    script = (
        "import sys\nfrom querycache.doors.cli.main import run\n"
        "for words in sys.argv[1:]:\n"
        "    try:\n        run([*words.split(), '--help'])\n"
        "    except SystemExit as end:\n        assert end.code == 0\n"
        "    print('=' * 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *COMMANDS],
        capture_output=True,
        check=True,
        text=True,
        env=environment(COLUMNS="100"),
    )
    pages = done.stdout.split("=" * 9)[:-1]
    assert len(pages) == len(COMMANDS)
    for words, page in zip(COMMANDS, pages, strict=True):
        assert f"Usage: querycache {words}" in page
        usage, _, examples = page.partition("Example")
        assert "--help" in usage
        assert f"querycache {words}" in examples


def test_the_command_alone_shows_what_there_is():
    done = spawn(["--help"])
    assert done.status == 0
    for words in COMMANDS:
        assert words.split()[0] in done.out
    assert spawn([]).status == 2


def test_help_and_version_load_nothing_heavy():
    for words in ("--version", "--help"):
        script = (
            "import sys\nfrom querycache.doors.cli.main import run\n"
            f"try:\n    run(['{words}'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
            f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, check=True, text=True
        )
        assert done.stdout
        assert done.stderr == "[]\n"


@pytest.mark.parametrize(
    "words", [["nonsense"], ["search"], ["replay"], ["serve", "/nowhere"], ["mcp", "/nowhere"]]
)
def test_wrong_use(home: Path, words: list[str]):
    done = spawn(words)
    assert (done.status, done.out) == (2, "")
    assert done.err
    assert not home.exists()


@pytest.mark.usefixtures("home")
def test_debug_shows_where_it_failed():
    done = spawn(["search", "x"])
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    shown = spawn(["--debug", "search", "x"])
    assert shown.status == 1
    assert "Traceback (most recent call last)" in shown.err
    assert shown.err.endswith(done.err)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("words", [["config", "show", "--json"], ["config", "show"]])
def test_a_reader_that_leaves_is_no_error(words: list[str]):
    read, write_end = os.pipe()
    os.close(read)
    process = subprocess.run(
        command(*words), check=False, stdout=write_end, stderr=subprocess.PIPE, text=True
    )
    os.close(write_end)
    assert (process.returncode, process.stderr) == (0, "")


@pytest.fixture
def indexing(home: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is in the middle of indexing, of which something is stored."""
    body = "def function_{0}(argument):\n    return argument + {0}\n"
    root = write(tmp_path / "many", {f"m{n}.py": body.format(n) for n in range(MANY)})
    process = subprocess.Popen(
        command("index", str(root), "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    clock = SystemClock()
    deadline = clock.monotonic() + 20.0
    while not stored(home):
        assert process.poll() is None
        assert clock.monotonic() < deadline
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def stored(home: Path) -> int:
    """The files that the index holds."""
    try:
        index = SqliteIndexes(str(home / "projects")).open("many")
    except ProjectNotFoundError:
        return 0
    try:
        return index.state().files
    finally:
        index.close()


def test_ctrl_c_ends_an_index_run_and_keeps_what_is_done(
    home: Path, indexing: subprocess.Popen[str]
):
    os.killpg(indexing.pid, signal.SIGINT)
    out, err = indexing.communicate(timeout=15)
    assert indexing.returncode == 130
    assert (out, err.splitlines()[-1]) == ("", "stopped; what was done so far is kept")
    assert "Traceback" not in err
    assert 0 < stored(home) < MANY


def test_other_processes_see_an_index_run(home: Path, indexing: subprocess.Popen[str]):
    assert stored(home) < MANY
    (process,) = spawn(["stats", "--json"]).json["processes"]
    assert (process["pid"], process["door"]) == (indexing.pid, "index")


@pytest.mark.usefixtures("home")
def test_on_a_terminal_it_is_coloured_and_asks(tmp_path: Path):
    root = write(tmp_path / "shop")
    assert spawn(["index", str(root)]).status == 0
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command("forget", "shop"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(TERM="xterm-256color"),
    )
    os.close(theirs)
    said = b""
    while b"[y/N]" not in said:
        said += os.read(ours, 1024)
    os.write(ours, b"n\n")
    assert process.wait(timeout=15) == 1
    os.close(ours)
    assert spawn(["projects", "--json"]).json["projects"]


@pytest.mark.usefixtures("home")
def test_serve_tells_where_and_how_an_editor_gets_there(tmp_path: Path):
    root = write(tmp_path / "shop")
    process = subprocess.Popen(
        command("serve", str(root), "--port", "0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    told: list[str] = []
    while not (told and told[-1].endswith("}}}\n") and "command" in told[-1]):
        told.append(process.stderr.readline())
        assert told[-1]
    text = "".join(told)
    (address,) = re.findall(r"serving on (http://127\.0\.0\.1:\d+) ", text)
    assert f'"url": "{address}/mcp"' in text
    assert f'"args": ["mcp", "{root}"]' in text
    with urllib.request.urlopen(f"{address}/health/live") as answer:  # noqa: S310 -- our own
        assert answer.status == 200
    (seen,) = spawn(["stats", "--json"]).json["processes"]
    assert seen["door"] == "serve"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=15)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err


@pytest.mark.usefixtures("home")
def test_watching_ends_by_ctrl_c_and_that_is_fine():
    process = subprocess.Popen(
        command("stats", "--watch"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(PYTHONUNBUFFERED="1"),
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    assert process.stdout.readline()
    assert process.stdout.readline() == first
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=15)
    assert (process.returncode, err) == (0, "")
