"""index, search, projects and forget."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.doors.cli_kit import Cli, write

RESULT = {"path", "start_line", "end_line", "symbol", "language", "score", "text"}
CACHE = {"hit", "tier", "kind", "age_s", "generation", "miss_reason", "saved_ms"}


@pytest.fixture
def cli(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Cli:
    monkeypatch.setenv("QUERYCACHE_HOME", str(tmp_path / "home"))
    return Cli(capsys)


@pytest.fixture
def shop(tmp_path: Path, cli: Cli) -> Path:
    """An indexed project."""
    root = write(tmp_path / "shop")
    assert cli("index", str(root)).status == 0
    return root


def test_index_tells_what_it_did_and_pays_once(tmp_path: Path, cli: Cli):
    root = write(tmp_path / "shop")
    first = cli("index", str(root), "--json").json
    fields = {"project", "files", "files_changed", "chunks", "embedded"}
    assert first.keys() >= fields | {"embedding_cache_hits", "generation", "took_ms"}
    assert (first["project"], first["files"], first["files_changed"]) == ("shop", 4, 4)
    assert first["embedded"] == first["chunks"] > 0
    again = cli("index", str(root), "--json").json
    assert (again["embedded"], again["files_changed"]) == (0, 0)
    assert again["generation"] == first["generation"]


def test_index_for_people(tmp_path: Path, cli: Cli):
    root = write(tmp_path / "shop")
    (root / "data.bin").write_bytes(b"\0\1\2" * 100)
    done = cli("index", str(root), "--project", "store")
    assert done.status == 0
    assert "store: 4 files (4 changed)" in done.out
    assert "skipped: " in done.out


def test_a_folder_that_is_none_is_wrong_use(tmp_path: Path, cli: Cli):
    done = cli("index", str(tmp_path / "nowhere"))
    assert (done.status, done.out) == (2, "")
    assert "is not a folder; name the folder of a project" in done.err
    assert done.err.count("\n") == 1


@pytest.mark.usefixtures("shop")
def test_search_answers_with_the_fields_of_the_contract(cli: Cli):
    asked = ("search", "read the environment variables", "--json", "-k", "2")
    first = cli(*asked).json
    assert first.keys() >= {"query", "project", "results", "cache", "took_ms"}
    assert first["project"] == "shop"
    assert 0 < len(first["results"]) <= 2
    assert all(row.keys() >= RESULT for row in first["results"])
    assert first["results"][0]["path"] == "app/settings.py"
    assert first["cache"].keys() >= CACHE
    assert (first["cache"]["tier"], first["cache"]["hit"]) == ("none", False)
    assert first["cache"]["miss_reason"] == "absent"
    again = cli(*asked).json  # a new App: its L1 is empty
    assert (again["cache"]["tier"], again["cache"]["hit"]) == ("l2", True)
    assert again["results"] == first["results"]
    assert (first["embedded"], again["embedded"]) == (1, 0)


@pytest.mark.usefixtures("shop")
def test_search_for_people_shows_places_and_where_the_answer_came_from(cli: Cli):
    first = cli("search", "save a record to disk")
    assert first.status == 0
    assert "app/store.py:1-4  save_record" in first.out
    assert "with open(path" in first.out
    assert "computed (absent) · shop · generation 1" in first.out
    assert "\x1b" not in first.out
    again = cli("search", "save a record to disk")
    assert "from L2" in again.out
    assert "saved" in again.out


@pytest.mark.usefixtures("shop")
def test_search_filters(cli: Cli):
    found = cli("search", "error", "--language", "go", "--path", "app/*", "--json").json
    assert {row["path"] for row in found["results"]} == {"app/errors.go"}


def test_search_takes_the_project_that_holds_the_folder(
    tmp_path: Path, cli: Cli, shop: Path, monkeypatch: pytest.MonkeyPatch
):
    other = write(tmp_path / "other")
    cli("index", str(other))
    lost = cli("search", "record")
    assert lost.status == 1
    assert "indexed are: other, shop; name one with --project" in lost.err
    monkeypatch.chdir(shop / "app")
    assert cli("search", "record", "--json").json["project"] == "shop"
    assert cli("search", "record", "--project", "other", "--json").json["project"] == "other"


def test_without_any_project_the_remedy_is_told(cli: Cli):
    done = cli("search", "anything", "--json")
    assert (done.status, done.out) == (1, "")
    assert done.err == "error: no project is indexed; index one: querycache index PATH\n"


@pytest.mark.parametrize(
    "words", [("-k", "0"), ("-k", "101"), ("--mode", "magic"), ("--nonsense",)]
)
def test_wrong_options_are_wrong_use(cli: Cli, words: tuple[str, ...]):
    done = cli("search", "x", *words)
    assert (done.status, done.out) == (2, "")
    assert done.err


@pytest.mark.usefixtures("shop")
def test_an_empty_query_is_wrong_use(cli: Cli):
    assert cli("search", "  ").status == 2


def test_nothing_that_is_indexed_steers_the_terminal(tmp_path: Path, cli: Cli):
    evil = "\x1b[31mred\x1b[0m \x07 \x9b31m \u202e"
    name = "bad\x9b31m\u202eyp.py"
    body = f"def attack():\n    return '{evil}'  # {'harmless ' * 8}\n"
    root = write(tmp_path / "evil", {name: body})
    cli("index", str(root))
    shown = cli("search", "attack")
    assert shown.status == 0
    assert r"bad\x9b31m\u202eyp.py:1-2" in shown.out
    assert r"\x1b[31mred" in shown.out
    told = cli("search", "attack", "--json")
    assert told.json["results"][0]["path"] == name
    for text in (shown.out, told.out, cli("search", evil, "--project", evil).err):
        assert not set(text) & set("\x1b\x07\x9b\u202e")


def test_projects(cli: Cli, shop: Path):
    (row,) = cli("projects", "--json").json["projects"]
    fields = {"name", "root", "files", "chunks", "generation", "indexed_at", "stale_files"}
    assert row.keys() >= fields
    assert (row["name"], row["root"], row["stale_files"]) == ("shop", str(shop), 0)
    (shop / "app" / "store.py").write_text("changed = True\n")
    assert cli("projects", "--json").json["projects"][0]["stale_files"] == 1
    assert str(shop) in cli("projects").out


def test_forgetting_asks_first(cli: Cli, shop: Path):
    asked = cli("forget", "shop")  # nobody there to answer
    assert asked.status == 2
    assert "--yes" in asked.err
    assert cli("projects", "--json").json["projects"]
    assert cli("forget", "shop", "--yes", "--json").json["forgotten"] is True
    assert cli("projects", "--json").json["projects"] == []
    assert (shop / "README.md").exists()
    again = cli("forget", "shop", "--yes")
    assert again.status == 1
    assert "no project 'shop' is indexed" in again.err
