"""config and models."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.doors.cli_kit import Cli

from querycache.assembly.models import install_model, models
from querycache.config import FIELDS, load_config
from querycache.errors import UsageError
from querycache.origins.embedder_minilm import MODEL_FILE, TOKENIZER_FILE


@pytest.fixture
def cli(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Cli:
    monkeypatch.setenv("QUERYCACHE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return Cli(capsys)


def test_show_tells_each_value_and_where_it_came_from(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("QUERYCACHE_TOKEN", "s3cret-token-of-mine")
    (tmp_path / ".env").write_text("SEARCH_CACHE_TTL=60\n")
    shown = cli("config", "show", "--json")
    rows = {row["variable"]: row for row in shown.json["settings"]}
    assert rows.keys() == FIELDS.keys()
    assert (rows["SEARCH_CACHE_TTL"]["value"], rows["SEARCH_CACHE_TTL"]["source"]) == (
        "60",
        ".env",
    )
    assert rows["QUERYCACHE_TOKEN"]["value"] == "***"
    assert rows["MEMORY_CACHE_MAX_SIZE"]["source"] == "default"
    changed = cli("config", "show", "--changed")
    assert "SEARCH_CACHE_TTL" in changed.out
    assert "MEMORY_CACHE_MAX_SIZE" not in changed.out
    for text in (shown.out, changed.out, cli("config", "show").out):
        assert "s3cret" not in text


def test_a_slip_is_told_on_standard_error_by_every_command(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SEARCH_CACHE_TLL", "60")
    done = cli("keys", "--json")
    assert done.json["patterns"] == []
    assert done.err.startswith("warning: SEARCH_CACHE_TLL")
    assert "SEARCH_CACHE_TTL" in done.err
    checked = cli("config", "check", "--json").json
    assert checked["valid"] is True
    assert len(checked["warnings"]) == 1


def test_check_tells_all_that_is_wrong(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    assert cli("config", "check").out == "the settings are fine\n"
    monkeypatch.setenv("SEARCH_CACHE_TTL", "soon\x1b[31m")
    monkeypatch.setenv("MEMORY_CACHE_MAX_SIZE", "-1")
    for words in (("config", "check"), ("keys",), ("config", "show")):
        done = cli(*words)
        assert (done.status, done.out) == (1, "")
        assert "SEARCH_CACHE_TTL" in done.err
        assert "MEMORY_CACHE_MAX_SIZE" in done.err
        assert "\x1b" not in done.err
        assert done.err.count("\n") == 1
    told = cli("config", "check", "--json")
    assert told.status == 1
    assert '"valid":false' in told.out


def test_check_tells_what_this_build_can_not_do(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CACHE_PROJECT_ISOLATION", "strict")
    done = cli("config", "check")
    assert done.status == 1
    assert "CACHE_PROJECT_ISOLATION=strict" in done.err


def test_models_are_listed(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    models = {model["name"]: model for model in cli("models", "list", "--json").json["models"]}
    assert models["local"]["used"] is True
    assert models["minilm"]["installed"] is False
    assert "querycache models install minilm" in cli("models", "list").out
    folder = Path(models["minilm"]["where"])
    folder.mkdir(parents=True)
    for name in (MODEL_FILE, TOKENIZER_FILE):
        (folder / name).touch()
    monkeypatch.setenv("QUERYCACHE_EMBEDDER", "minilm")
    found = {model["name"]: model for model in cli("models", "list", "--json").json["models"]}
    assert (found["minilm"]["installed"], found["minilm"]["used"]) == (True, True)


def test_only_what_can_be_installed_is(cli: Cli, tmp_path: Path):
    assert cli("models", "install", "gpt").status == 2
    with pytest.raises(UsageError):
        install_model("gpt", tmp_path, lambda _step, _steps, _what: None)


def test_a_remote_model_is_listed_with_its_address(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("QUERYCACHE_EMBEDDER", "ollama")
    monkeypatch.setenv("QUERYCACHE_EMBEDDER_MODEL", "nomic")
    found = models(load_config().config, Path("/nowhere"))
    assert [(model.name, model.used) for model in found] == [
        ("local", False),
        ("minilm", False),
        ("ollama: nomic", True),
    ]
    assert "ollama: nomic" in cli("models", "list").out
