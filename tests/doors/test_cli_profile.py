"""profile: where time goes, and what memory a process uses."""

from __future__ import annotations

import json
import os
import pstats
import signal
import subprocess
from io import StringIO
from pathlib import Path

import pytest
from tests.doors.cli_kit import Cli, command, environment

from querycache.doors.cli.profiling import followed
from querycache.errors import UsageError
from querycache.observe.memory_pressure import resident


@pytest.fixture
def cli(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Cli:
    monkeypatch.setenv("QUERYCACHE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return Cli(capsys)


def test_it_leaves_a_profile_and_shows_the_table(cli: Cli, tmp_path: Path):
    done = cli("profile", "--operations", "40")
    assert done.status == 0
    assert "function calls" in done.out
    assert "Ordered by: cumulative time" in done.out
    assert "to 20 due to restriction <20>" in done.out
    assert "cache_profile.prof" in done.err
    text = StringIO()
    pstats.Stats(str(tmp_path / "cache_profile.prof"), stream=text).print_stats()
    assert "remember.py" in text.getvalue()


def test_the_profile_as_json_counts_each_set_and_read(cli: Cli, tmp_path: Path):
    found = cli("profile", "--operations", "40", "--output", "p.prof", "--json").json
    assert (found["operations"], found["file"]) == (40, "p.prof")
    assert (tmp_path / "p.prof").exists()
    assert len(found["functions"]) == 20
    (sets,) = [row for row in found["functions"] if row["function"].endswith("(put)")][:1]
    assert sets["calls"] >= 40
    times = [row["cumulative_s"] for row in found["functions"]]
    assert times == sorted(times, reverse=True)


def test_what_was_profiled_is_removed_again(cli: Cli):
    cli("profile", "--operations", "40")
    cli("profile", "--memory", "--operations", "40")
    assert cli("keys", "--json").json["patterns"] == []


def test_a_process_is_followed_with_the_lines_of_the_guide(cli: Cli, tmp_path: Path):
    words = ("--duration", "0.2", "--interval", "0.1", "--pid", str(os.getpid()))
    done = cli("profile", "--memory", *words)
    lines = done.out.splitlines()
    assert lines[0] == f"Process {os.getpid()}"
    assert lines[1].startswith("Baseline memory: ")
    assert [line.partition(":")[0] for line in lines[2:]] == [
        "Memory after 0.1s",
        "Memory after 0.2s",
    ]
    found = cli("profile", "--memory", *words, "--json", "--output", "m.json").json
    assert json.loads((tmp_path / "m.json").read_text()) == found
    assert abs(found["baseline_bytes"] - resident()) < 100 << 20
    assert (len(found["samples"]), found["ended"]) == (2, "time")


def test_it_takes_its_own_memory_where_nobody_else_lives(cli: Cli):
    """1,000 entries of 10,000 characters cost what L1 counts, and what goes with it."""
    found = cli("profile", "--memory", "--json").json
    assert (found["pid"], found["operations"]) == (os.getpid(), 1000)
    assert 10_000_000 < found["l1_bytes"] <= found["l1_max_bytes"]
    assert found["growth_bytes"] < 1.25 * found["l1_bytes"] + (16 << 20)
    shown = cli("profile", "--memory", "--operations", "10").out
    assert "Set 10 entries of 10,000 characters: " in shown


def test_the_longest_running_process_is_found(cli: Cli):
    source = (
        "import asyncio, querycache\n"
        "async def main():\n"
        "    service = await querycache.get_cache_service()\n"
        "    await asyncio.to_thread(service.app.registry.publish, {})\n"
        "    print('up', flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    python = command()[0]
    with subprocess.Popen(
        [python, "-c", source], env=environment(), stdout=subprocess.PIPE, text=True
    ) as living:
        try:
            assert living.stdout is not None
            assert living.stdout.readline() == "up\n"
            found = cli(
                "profile", "--memory", "--json", "--duration", "0.1", "--interval", "0.1"
            ).json
        finally:
            living.kill()
    assert (found["pid"], found["door"]) == (living.pid, "python")


def test_a_process_that_ends_ends_it(cli: Cli):
    with subprocess.Popen(["/bin/sleep", "0.3"]) as short:
        found = cli("profile", "--memory", "--pid", str(short.pid), "--interval", "0.1", "--json")
        assert short.wait(10) == 0
    assert found.json["ended"] in {"the process ended", "time"}


def test_an_interrupt_ends_it_with_what_it_saw(tmp_path: Path):
    words = command("profile", "--memory", "--pid", str(os.getpid()), "--interval", "0.05")
    with subprocess.Popen(
        [*words, "--output", str(tmp_path / "m.json")],
        env=environment(QUERYCACHE_HOME=str(tmp_path / "home")),
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        for _ in range(3):  # the process, the baseline, a sample
            running.stdout.readline()
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=20)
    assert running.returncode == 0
    seen = json.loads((tmp_path / "m.json").read_text())
    assert seen["ended"] == "interrupted"
    assert seen["samples"]


@pytest.mark.parametrize(
    "words",
    [
        ("--pid", "1"),
        ("--memory", "--pid", "99999999"),
        ("--memory", "--pid", "1", "--operations", "5"),
    ],
)
def test_wrong_use_is_told(cli: Cli, words: tuple[str, ...]):
    done = cli("profile", *words)
    assert done.status == 2
    assert done.err.startswith("error: ")


def test_a_process_that_is_not_there_is_named(cli: Cli):
    del cli  # gives it a home
    with pytest.raises(UsageError, match="99999999 can't be looked at"):
        followed(99_999_999, None, duration_s=0, interval_s=1, tell=print)
