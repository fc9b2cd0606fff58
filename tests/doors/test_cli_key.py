"""Keys made, listed, replaced and retired from the command line."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest
from tests.doors.cli_kit import Cli

from querycache import get_cache_service
from querycache.assembly.sealing import key_findings
from querycache.config import load_config

ON = "CACHE_ENCRYPTION_ENABLED"


@pytest.fixture
def cli(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Cli:
    monkeypatch.setenv("QUERYCACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return Cli(capsys)


def stored(folder: Path) -> bytes:
    return (folder / "data" / "querycache" / "keys" / "keys.json").read_bytes()


def test_keys_are_told_by_id_and_fingerprint_never_as_they_are(cli: Cli, tmp_path: Path) -> None:
    assert cli("key", "list", "--json").json["keys"] == []
    first = cli("key", "generate", "--json").json
    second = cli("key", "generate").out
    listed = cli("key", "list", "--json").json
    assert [key["state"] for key in listed["keys"]] == ["active", "decrypt"]
    assert listed["keys"][1]["key_id"] == first["key_id"]
    assert listed["keys"][0]["key_id"] in second
    secrets = [part for part in stored(tmp_path).split(b'"') if part.endswith(b"=")]
    assert len(secrets) == 2
    said = str(first) + second + str(listed) + cli("key", "list").out
    assert not any(secret.decode() in said for secret in secrets)


def test_only_print_shows_the_key(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = cli("key", "generate", "--print", "--json").json
    assert len(base64.b64decode(shown["key"])) == 32
    assert shown["key"].encode() in stored(tmp_path)
    text = cli("key", "generate", "--print").out
    monkeypatch.setenv("CACHE_ENCRYPTION_KEY", text.splitlines()[1])
    listed = cli("key", "list", "--json").json
    assert listed["keys"][0]["source"] == "CACHE_ENCRYPTION_KEY"
    assert "comes first" in cli("key", "generate").err
    assert cli("key", "rotate").status == 2


def test_without_a_key_nothing_starts_and_the_doctor_is_told(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert key_findings(load_config().config) == []
    monkeypatch.setenv(ON, "true")
    ended = cli("keys")
    assert ended.status == 1
    assert "querycache key generate" in ended.err
    checked = cli("config", "check")
    assert checked.status == 1
    assert "querycache key generate" in checked.err
    (finding,) = key_findings(load_config().config)
    assert (finding.name, finding.severity) == ("crypto.key_missing", "error")
    assert "querycache key generate" in finding.remedy
    cli("key", "generate")
    assert cli("keys").status == 0
    assert key_findings(load_config().config) == []


def test_retiring_waits_for_what_needs_the_key(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ON, "true")
    first = cli("key", "generate", "--json").json["key_id"]

    async def fill() -> None:
        service = await get_cache_service()
        assert await service.set("k", "v")
        await service.shutdown()

    asyncio.run(fill())
    assert "the one that seals" in cli("key", "retire", first, "--force").err
    replaced = cli("key", "rotate", "--json").json
    assert replaced["replaced"] == first
    ended = cli("key", "retire", first)
    assert ended.status == 1
    assert "holds 1 that it sealed" in ended.err
    assert cli("key", "retire", first, "--force", "--json").json == {"retired": first}
    assert cli("key", "list", "--json").json["revoked"] == [first]
    assert cli("key", "retire", first, "--force").status == 2
    explained = cli("explain", "k").out
    assert "unknown_key" in explained


def test_a_key_that_nothing_needs_is_retired_without_force(cli: Cli) -> None:
    first = cli("key", "generate", "--json").json["key_id"]
    cli("key", "rotate")
    assert cli("key", "retire", first).out == f"key {first} is gone\n"


def test_no_key_is_retired_where_nobody_can_say_who_needs_it(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ON, "true")
    first = cli("key", "generate", "--json").json["key_id"]
    cli("key", "rotate")
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    (home / "l2").write_text("no folder")
    ended = cli("key", "retire", first)
    assert ended.status == 1
    assert cli("key", "list", "--json").json["revoked"] == []


def test_the_key_that_a_variable_says_is_not_retired(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = cli("key", "generate", "--print", "--json").json
    cli("key", "generate")
    monkeypatch.setenv("CACHE_ENCRYPTION_KEY", shown["key"])
    ended = cli("key", "retire", shown["key_id"], "--force")
    assert ended.status == 2
    assert "CACHE_ENCRYPTION_KEY" in ended.err
    assert cli("key", "list").status == 0
