"""The last good settings are kept, and put back whole or not at all."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from querycache.config.last_good import COMPOSE, ENV, roll_back, save
from querycache.errors import ConfigError

GOOD, WRONG = "CACHE_BATCH_SIZE=7\n", "CACHE_BATCH_SIZE=seven\n"
SERVICES = "services:\n  redis-cache: {}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ENV).write_text(GOOD)
    (tmp_path / COMPOSE).write_text(SERVICES)
    return tmp_path


def environ(folder: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(folder), **more}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_what_was_kept_comes_back_and_what_it_replaced_stays(folder: Path):
    kept = save(folder, environ(folder, REDIS_PORT="6380"))
    assert kept == ((ENV, COMPOSE), ("REDIS_PORT",))
    for name in (ENV, COMPOSE):
        assert stat.S_IMODE((folder / f"{name}.backup").stat().st_mode) == 0o600
    (folder / ENV).write_text(WRONG)
    done = roll_back(folder, environ(folder))
    assert done == ((ENV,), (COMPOSE,))
    assert (folder / ENV).read_text() == GOOD
    assert stat.S_IMODE((folder / ENV).stat().st_mode) == 0o600
    assert (folder / f"{ENV}.replaced").read_text() == WRONG
    assert roll_back(folder, environ(folder)) == ((), (ENV, COMPOSE))
    assert not [name for name in contents(folder) if name.endswith(".part")]


def test_settings_that_are_wrong_are_not_kept(folder: Path):
    (folder / ENV).write_text(WRONG)
    before = contents(folder)
    with pytest.raises(ConfigError, match="CACHE_BATCH_SIZE"):
        save(folder, environ(folder))
    assert contents(folder) == before


def test_there_must_be_something_to_keep(tmp_path: Path):
    with pytest.raises(ConfigError, match="nothing to keep"):
        save(tmp_path, environ(tmp_path))


@pytest.mark.parametrize("missing", [ENV, COMPOSE])
def test_a_missing_copy_is_refused_and_nothing_changes(folder: Path, missing: str):
    save(folder, environ(folder))
    (folder / f"{missing}.backup").unlink()
    (folder / ENV).write_text("CACHE_BATCH_SIZE=8\n")
    before = contents(folder)
    with pytest.raises(ConfigError, match=r"\.backup is missing: nothing was changed"):
        roll_back(folder, environ(folder))
    assert contents(folder) == before


@pytest.mark.parametrize(("name", "text"), [(ENV, WRONG), (ENV, "no line"), (COMPOSE, "x")])
def test_a_copy_that_would_not_be_accepted_is_refused(folder: Path, name: str, text: str):
    save(folder, environ(folder))
    (folder / f"{name}.backup").write_text(text)
    (folder / ENV).write_text("CACHE_BATCH_SIZE=8\n")
    before = contents(folder)
    with pytest.raises(ConfigError, match="nothing was changed"):
        roll_back(folder, environ(folder))
    assert contents(folder) == before


def test_a_secret_is_told_to_nobody(folder: Path):
    save(folder, environ(folder))
    (folder / f"{ENV}.backup").write_text("REDIS_PASSWORD=open-sesame\nREDIS_PORT=x\n")
    with pytest.raises(ConfigError) as error:
        roll_back(folder, environ(folder))
    assert "open-sesame" not in str(error.value)


def test_a_link_is_not_followed(folder: Path):
    (folder / "elsewhere").write_text("mine")
    (folder / f"{ENV}.backup").symlink_to(folder / "elsewhere")
    save(folder, environ(folder))
    assert (folder / "elsewhere").read_text() == "mine"
    assert not (folder / f"{ENV}.backup").is_symlink()


def test_with_env_alone_env_alone_is_kept(folder: Path):
    (folder / COMPOSE).unlink()
    assert save(folder, environ(folder)).files == (ENV,)
    (folder / ENV).unlink()
    assert roll_back(folder, environ(folder)).restored == (ENV,)


def test_paths_in_a_copy_begin_in_its_folder(folder: Path):
    (folder / "certs").mkdir()
    (folder / "certs" / "ca.pem").write_text("a certificate")
    settings = "REDIS_SSL_ENABLED=true\nREDIS_SSL_CA_CERT_PATH=certs/ca.pem\n"
    (folder / ENV).write_text(settings)
    save(folder, environ(folder))
    (folder / ENV).write_text(WRONG)
    assert roll_back(folder, environ(folder)).restored == (ENV,)
    assert (folder / ENV).read_text() == settings
