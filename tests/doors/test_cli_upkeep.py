"""backup, verify, restore, clean, reset, config save and rollback, as they are typed."""

from __future__ import annotations

import io
import json
import signal
import subprocess
from pathlib import Path

import pytest
from tests.doors.cli_kit import Cli, command, environment

from querycache.doors.cli.commands_rollback import rollback, save
from querycache.doors.cli.commands_upkeep import backup, clean, reset, restore, verify


@pytest.fixture
def cli(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Cli:
    monkeypatch.setenv("QUERYCACHE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return Cli(capsys)


@pytest.fixture
def filled(tmp_path: Path, cli: Cli) -> Path:
    """A flat file whose three entries are in the cache."""
    file = tmp_path / "flat.json"
    file.write_text(json.dumps({"a": 1, "b": {"c": [1, 2]}, "search:q": "found"}))
    assert cli("restore", str(file)).out == "Recovered 3 cache entries\n"
    return file


@pytest.mark.usefixtures("filled")
def test_a_backup_goes_out_is_checked_and_comes_back(cli: Cli, tmp_path: Path):
    made = cli("backup", "a.qcb", "--json").json
    assert {"entries", "bytes", "skipped", "failed"} <= made.keys()
    assert (made["entries"], made["kinds"]["search"]) == (3, 1)
    again = cli("backup", "a.qcb")
    assert again.status == 1
    assert "--force" in again.err
    assert cli("backup", "a.qcb", "--force").status == 0
    assert cli("verify", "a.qcb", "--json").json["entries"] == 3
    assert "is whole, made" in cli("verify", "a.qcb").out
    dry = cli("restore", "a.qcb", "--overwrite", "--dry-run")
    assert dry.out == "Would recover 3 cache entries\n"
    kept = cli("restore", "a.qcb", "--json").json
    assert (kept["entries"], kept["skipped"], kept["reasons"]) == (0, 3, {"kept": 3})
    assert cli("clean", "search").out == "Deleted 1 search cache entries\n"
    assert cli("restore", "a.qcb").out == "Recovered 1 cache entries\n"
    assert cli("restore", "a.qcb", "--replace").out == "Recovered 3 cache entries\n"
    (tmp_path / "a.qcb").write_bytes((tmp_path / "a.qcb").read_bytes()[:-1])
    for words in (("verify", "a.qcb"), ("restore", "a.qcb", "--replace")):
        ended = cli(*words)
        assert ended.status == 1
        assert "cut short" in ended.err
    assert sum(row["count"] for row in cli("keys", "--json").json["patterns"]) == 3
    both = cli("restore", "a.qcb", "--merge", "--replace")
    assert both.status == 2


@pytest.mark.usefixtures("filled")
def test_a_backup_that_leaves_entries_out_against_its_will_says_so(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    slip = cli("backup", "a.qcb", "--project", "nosuch")
    assert slip.status == 1
    assert "nosuch" in slip.err
    assert not (tmp_path / "a.qcb").exists()
    assert cli("key", "generate").status == 0
    monkeypatch.setenv("CACHE_ENCRYPTION_ENABLED", "true")
    part = cli("backup", "b.qcb")
    assert part.status == 1
    assert "3 failed" in part.err
    assert cli("backup", "c.qcb", "--json").status == 1


def test_the_flat_form_counts_successes_and_tells_each_failure(cli: Cli, tmp_path: Path):
    (tmp_path / "flat.json").write_text(json.dumps({"big": "x" * 17_000_000, "small": 1}))
    ended = cli("restore", "flat.json")
    assert (ended.status, ended.out) == (1, "Recovered 1 cache entries\n")
    assert "Error recovering key big: " in ended.err
    assert cli("restore", "none.json").status == 1


@pytest.mark.usefixtures("filled")
def test_kinds_are_cleaned_by_name(cli: Cli):
    done = cli("clean", "other", "file", "--json").json
    assert done == {"deleted": {"other": 2, "file": 0}, "told": True}
    assert cli("clean", "else").status == 2
    assert cli("clean").status == 2


@pytest.mark.usefixtures("filled")
def test_a_reset_asks_for_yes(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    for answer in ("no\n", "y\n", ""):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        ended = cli("reset")
        assert (ended.status, ended.out) == (1, "")
        assert "Reset cancelled" in ended.err
    assert sum(row["count"] for row in cli("keys", "--json").json["patterns"]) == 3
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    assert "Deleted 2 other cache entries" in cli("reset").out
    assert cli("reset", "--yes", "--json").json["deleted"]["other"] == 0


def test_a_key_that_no_tier_holds_says_so(cli: Cli):
    ended = cli("explain", "nosuchkey")
    assert ended.status == 1
    assert "no tier holds it" in ended.err


def test_settings_are_kept_and_put_back(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    missing = cli("config", "rollback")
    assert missing.status == 1
    assert "missing" in missing.err
    (tmp_path / ".env").write_text("CACHE_BATCH_SIZE=7\n")
    assert cli("config", "save").out == ".env -> .env.backup\n"
    (tmp_path / ".env").write_text("CACHE_BATCH_SIZE=x\n")
    done = cli("config", "rollback")
    assert done.out == ".env.backup -> .env\n"
    assert "restart" in done.err
    assert cli("config", "rollback", "--json").json == {"restored": [], "unchanged": [".env"]}
    monkeypatch.setenv("CACHE_BATCH_SIZE", "9")
    assert cli("config", "save", "--json").json["elsewhere"] >= ["CACHE_BATCH_SIZE"]


def test_each_says_what_it_does():
    for one in (backup, verify, restore, clean, reset, save, rollback):
        assert (one.__doc__ or "").partition("\n")[0].endswith(".")


def test_a_pipe_is_no_file(cli: Cli, tmp_path: Path):
    for words in (("backup", "-"), ("verify", "-"), ("restore", "-")):
        ended = cli(*words)
        assert (ended.status, ended.out) == (2, "")
        assert "pipe" in ended.err
    assert not (tmp_path / "-").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_file(tmp_path: Path, number: signal.Signals):
    (tmp_path / "files").mkdir()
    flat = tmp_path / "flat.json"
    flat.write_text(json.dumps({f"k{n}": "x" * 2000 for n in range(3000)}))
    home = environment(QUERYCACHE_HOME=str(tmp_path / "home"))
    subprocess.run(command("restore", str(flat)), env=home, check=True, capture_output=True)
    running = subprocess.Popen(
        command("backup", str(tmp_path / "files" / "a.qcb")),
        env=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while running.poll() is None and not any((tmp_path / "files").iterdir()):
        pass
    running.send_signal(number)
    running.communicate()
    assert running.returncode in {0, 130}
    left = [path.name for path in (tmp_path / "files").iterdir()]
    assert left == ([] if running.returncode else ["a.qcb"])
