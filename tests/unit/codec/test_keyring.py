"""Where keys come from, which one seals, and what is refused."""

from __future__ import annotations

import base64
import copy
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.unit.codec.seal_kit import KEY, NOWHERE, OTHER_KEY

from querycache.codec.key_store import Key, KeyStore, read_private
from querycache.codec.keyring import Keyring, Source
from querycache.errors import ConfigError
from querycache.testing.clock import FakeClock

TEXT, OTHER = (base64.b64encode(key).decode() for key in (KEY, OTHER_KEY))


def ring(
    *, variable: str = "", file: Path | None = None, command: str = "", store: Path = NOWHERE
) -> Keyring:
    source = Source(variable=variable, file=file, command=command, store=store)
    return Keyring(source, FakeClock())


def private(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def refused(message: str, **source: str | Path) -> str:
    with pytest.raises(ConfigError, match=message) as caught:
        ring(**source)  # pyright: ignore[reportArgumentType]  # as the test says
    assert TEXT not in f"{caught.value} {caught.value.remedy}"
    return caught.value.remedy


# --- sources -----------------------------------------------------------------------------------


def test_the_variable_comes_before_the_file_before_the_command_before_the_store(
    tmp_path: Path,
) -> None:
    store = tmp_path / "keys"
    stored = KeyStore(store, FakeClock()).generate()
    file = private(tmp_path / "key", f"{OTHER}\n")
    printing = "sh -c 'printf %s AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA='"
    assert ring(variable=TEXT, file=file, command=printing).current.reveal() == KEY
    assert ring(file=file, command=printing, store=store).current.reveal() == OTHER_KEY
    assert ring(command=printing, store=store).current.source == "CACHE_ENCRYPTION_KEY_COMMAND"
    assert ring(store=store).current.key_id == stored.key_id


def test_keys_of_the_store_stay_readable_beside_one_that_is_set(tmp_path: Path) -> None:
    stored = KeyStore(tmp_path, FakeClock()).generate()
    both = ring(variable=TEXT, store=tmp_path)
    assert [key.state for key in both.all()] == ["active", "decrypt"]
    assert both.get(stored.key_id) is not None
    assert both.current.reveal() == KEY


def test_the_key_that_is_set_may_also_be_in_the_store(tmp_path: Path) -> None:
    stored = KeyStore(tmp_path, FakeClock()).generate()
    both = ring(variable=base64.b64encode(stored.reveal()).decode(), store=tmp_path)
    assert [key.key_id for key in both.all()] == [stored.key_id]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o601, 0o620])
def test_a_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    file = private(tmp_path / "my key", TEXT, mode)
    assert refused("can be read by others", file=file) == f"run: chmod 600 '{file}'"


def test_a_link_a_folder_and_a_pipe_are_no_key_files(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(private(tmp_path / "key", TEXT))
    refused("symbolic link", file=link)
    refused("no regular file", file=tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    refused("no regular file", file=pipe)
    refused("no such file", file=tmp_path / "absent")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    file = private(tmp_path / "key", TEXT)
    os.chown(file, 12345, -1)
    assert "chown" in refused("belongs to another user", file=file)


@pytest.mark.parametrize(
    "text",
    ["", "not base64!", TEXT[:-4], TEXT + "AAAA", base64.b64encode(bytes(32)).decode(), "é" * 44],
)
def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    remedy = refused("is no key", file=private(tmp_path / "key", text))
    assert "querycache key generate --print" in remedy


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("/nonexistent/vault read hunter2", "did not run"),
        ("sh -c 'exit 3'", "ended with status 3"),
        ("sh -c 'echo hunter2'", "is no key"),
        ("unbalanced 'hunter2", "did not run"),
    ],
)
def test_a_command_that_fails_is_refused_and_not_shown(command: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        ring(command=command)
    assert "hunter2" not in f"{caught.value} {caught.value.remedy}"


def test_no_key_anywhere_says_how_to_make_one() -> None:
    empty = ring()
    assert empty.empty
    assert empty.all() == ()
    with pytest.raises(ConfigError, match="no key") as caught:
        _ = empty.current
    assert "querycache key generate" in caught.value.remedy


# --- the store ---------------------------------------------------------------------------------


def test_a_generated_key_is_kept_and_current_and_older_ones_stay_readable(tmp_path: Path) -> None:
    store = tmp_path / "deep" / "keys"
    first = ring(store=store).generate()
    mine = ring(store=store)
    second = mine.generate()
    for again in (mine, ring(store=store)):
        assert [(key.key_id, key.state) for key in again.all()] == [
            (second.key_id, "active"),
            (first.key_id, "decrypt"),
        ]
    assert stat.S_IMODE(store.stat().st_mode) == 0o700
    assert stat.S_IMODE((store / "keys.json").stat().st_mode) == 0o600
    assert sorted(path.name for path in store.iterdir()) == ["keys.json", "lock"]


def test_a_generated_key_seals_at_once_also_where_another_is_set(tmp_path: Path) -> None:
    mine = ring(variable=TEXT, store=tmp_path)
    fresh = mine.generate()
    mine.reload()
    assert mine.current.key_id == fresh.key_id
    assert mine.get(Key(KEY, state="active", source="").key_id) is not None
    assert ring(variable=TEXT, store=tmp_path).current.reveal() == KEY


def test_keys_made_at_once_are_all_kept(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        stores = [KeyStore(tmp_path, FakeClock()) for _ in range(24)]
        made = list(pool.map(KeyStore.generate, stores))
    kept = ring(store=tmp_path).all()
    assert {key.key_id for key in kept} == {key.key_id for key in made}
    assert [key.state for key in kept].count("active") == 1


def test_another_process_is_heard_of(tmp_path: Path) -> None:
    mine = ring(store=tmp_path)
    made = KeyStore(tmp_path, FakeClock()).generate()
    assert mine.get(made.key_id) is None
    assert mine.find(made.key_id) is not None
    assert mine.find("00000000") is None


def test_a_revoked_key_is_destroyed(tmp_path: Path) -> None:
    store = KeyStore(tmp_path, FakeClock())
    first = store.generate()
    with pytest.raises(ConfigError, match="the one that seals"):
        store.revoke(first.key_id)
    second = store.generate()
    assert store.revoke(first.key_id)
    assert not store.revoke(first.key_id)
    assert not store.revoke("00000000")
    assert [key.key_id for key in store.load()] == [second.key_id]
    assert store.revoked() == (first.key_id,)
    assert base64.b64encode(first.reveal()) not in (tmp_path / "keys.json").read_bytes()
    refused("revoked", variable=base64.b64encode(first.reveal()).decode(), store=tmp_path)


def test_a_store_that_others_can_read_is_refused(tmp_path: Path) -> None:
    ring(store=tmp_path).generate()
    (tmp_path / "keys.json").chmod(0o644)
    assert "chmod 600" in refused("can be read by others", store=tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"version":2,"keys":[]}', '{"version":1}'])
def test_a_damaged_store_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    file = private(tmp_path / "keys.json", text)
    assert "restore it" in refused("is no key store", store=tmp_path)
    with pytest.raises(ConfigError):
        KeyStore(tmp_path, FakeClock()).generate()
    assert file.read_text() == text


def test_a_key_under_a_wrong_name_is_refused(tmp_path: Path) -> None:
    key = ring(store=tmp_path).generate()
    file = tmp_path / "keys.json"
    file.write_text(file.read_text().replace(key.key_id, "00000000"))
    refused("is another", store=tmp_path)


def test_a_store_that_cannot_be_read_anew_leaves_what_is_known(tmp_path: Path) -> None:
    mine = ring(store=tmp_path)
    key = mine.generate()
    (tmp_path / "keys.json").write_text("{")
    with pytest.raises(ConfigError):
        mine.reload()
    assert mine.find("00000000") is None
    assert mine.current.key_id == key.key_id


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    private(tmp_path / "file", "")
    with pytest.raises(ConfigError, match="can't be kept") as caught:
        KeyStore(tmp_path / "file" / "keys", FakeClock()).generate()
    assert "ENCRYPTION_KEY_STORE_PATH" in caught.value.remedy


# --- keys --------------------------------------------------------------------------------------


def test_a_key_shows_its_name_and_never_itself() -> None:
    key = Key(KEY, state="active", source="here")
    assert repr(key) == "<Key 3dd29dfa active>"
    assert key.fingerprint.startswith("SHA256:")
    assert key.fingerprint != Key(OTHER_KEY, state="active", source="here").fingerprint
    with pytest.raises(TypeError):
        copy.copy(key)
    source = Source(variable=TEXT, file=None, command="vault hunter2", store=NOWHERE)
    assert TEXT not in repr(source)
    assert "hunter2" not in repr(source)


def test_a_private_file_is_read_whole(tmp_path: Path) -> None:
    assert read_private(private(tmp_path / "key", "x" * 5000)) == b"x" * 5000


def test_an_old_key_of_the_store_is_replaced_once_and_one_that_is_set_never(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    source = Source(variable="", file=None, command="", store=tmp_path, replace_s=100)
    rings = [Keyring(source, clock) for _ in range(2)]
    first = rings[0].generate()
    clock.wall_now += 99
    for mine in rings:
        mine.reload()
        assert mine.current.key_id == first.key_id
    clock.wall_now += 1
    for mine in rings:
        mine.reload()
        assert mine.current.key_id != first.key_id
        assert mine.get(first.key_id) is not None
    assert rings[0].current.key_id == rings[1].current.key_id
    clock.wall_now += 100
    given = Keyring(Source(TEXT, None, "", tmp_path, 100), clock)
    assert len(given.all()) == 3
    assert given.current.reveal() == KEY
