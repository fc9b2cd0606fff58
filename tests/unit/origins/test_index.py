"""The index in SQLite files."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.behaviour.index_suite import (
    DIMENSIONS,
    IndexSuite,
    Make,
    ask,
    file_of,
    paths,
    some_file,
    some_paths,
)

from querycache.errors import ProjectNotFoundError
from querycache.origins.indexes import SqliteIndexes
from querycache.ports.origins import Index


class TestSqliteIndexes(IndexSuite):
    @pytest.fixture
    def make(self) -> Make:
        return lambda folder: SqliteIndexes(str(folder))


def filled(folder: Path) -> SqliteIndexes:
    """A project p of twenty files, closed."""
    indexes = SqliteIndexes(str(folder))
    index = indexes.open("p", root="/r", versions="v", dimensions=DIMENSIONS)
    index.apply([some_file(path, 1) for path in some_paths(20)], [], [])
    index.close()
    return indexes


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    indexes = SqliteIndexes(str(tmp_path / "i"))
    index = indexes.open("p", root="/r", versions="v", dimensions=DIMENSIONS)
    index.apply([some_file("a.py", 1)], [], [])
    lock = indexes.try_lock("p", "index")
    assert lock is not None
    for path in (tmp_path / "i").rglob("*"):
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path
    assert {path.name for path in (tmp_path / "i" / "p").iterdir()} == {
        "index.sqlite",
        "index.sqlite-wal",
        "index.sqlite-shm",
    }
    lock.release()
    index.close()


def test_the_weight_of_the_semantic_arm_is_its_vote(tmp_path: Path) -> None:
    first: dict[float, str] = {}
    for weight in (0.1, 10.0):
        indexes = SqliteIndexes(str(tmp_path / str(weight)), semantic_weight=weight)
        index = indexes.open("p", root="/r", versions="v", dimensions=DIMENSIONS)
        index.apply([file_of("word.py", ["apple pear"]), file_of("near.py", ["plum"])], [], [])
        question = ask("plum")
        question = type(question)("apple", question.vector)
        first[weight] = index.search(question).hits[0].path
        index.close()
    assert first == {0.1: "word.py", 10.0: "near.py"}


def _truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _emptied(_: bytes) -> bytes:
    return b""


def _zeroed(data: bytes) -> bytes:
    return bytes(len(data))


def _foreign(data: bytes) -> bytes:
    return b"not a database, " * (len(data) // 16)


def _scrambled(data: bytes) -> bytes:
    return data[:8192] + bytes(byte ^ 0xA5 for byte in data[8192:])


DAMAGES = (_truncated, _emptied, _zeroed, _foreign, _scrambled)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_set_aside(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    indexes = filled(tmp_path)
    file = tmp_path / "p" / "index.sqlite"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ProjectNotFoundError) as raised:
        _use(indexes.open("p"))
    assert raised.value.remedy
    assert indexes.names() == []
    assert (tmp_path / ".damaged-p" / "index.sqlite").exists()
    index = indexes.open("p", root="/r", versions="v", dimensions=DIMENSIONS)
    assert index.apply([some_file("a.py", 1)], [], []).files == 1
    index.close()
    assert indexes.names() == ["p"]
    assert indexes.forget("p")
    assert {path.name for path in tmp_path.iterdir()} == {".locks"}


@pytest.mark.parametrize("damage", DAMAGES)
def test_opening_to_index_starts_anew_where_the_file_is_damaged(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    indexes = filled(tmp_path)
    file = tmp_path / "p" / "index.sqlite"
    file.write_bytes(damage(file.read_bytes()))
    while True:  # what is deeper in the file is found in use
        index = indexes.open("p", root="/r", versions="v", dimensions=DIMENSIONS)
        try:
            _use(index)
        except ProjectNotFoundError:
            continue
        break
    assert indexes.names() == ["p"]
    assert index.apply([some_file("b.py", 1)], [], []).files == 2
    index.close()


def _use(index: Index) -> None:
    try:
        index.known()
        index.search(ask("parse request session", limit=100))
        index.vectors([chunk.text_hash for chunk in some_file(some_paths(1)[0], 1).chunks])
        index.apply([some_file("a.py", 1)], [], [])
    except ProjectNotFoundError:
        index.close()
        raise


@pytest.mark.parametrize("stored", [b"needle in a haystack", b"\x01VECTOR"])
def test_a_flipped_bit_in_a_value_is_noticed(tmp_path: Path, stored: bytes) -> None:
    indexes = SqliteIndexes(str(tmp_path))
    index = indexes.open("p", root="/r", versions="v", dimensions=DIMENSIONS)
    file = file_of("a.py", ["needle in a haystack"])
    index.apply([file], [], [])
    index.close()
    path = tmp_path / "p" / "index.sqlite"
    data = bytearray(path.read_bytes())
    wanted = file.chunks[0].vector if stored.startswith(b"\x01") else stored
    assert data.count(wanted) == 1
    data[data.index(wanted) + 3] ^= 0x10
    path.write_bytes(bytes(data))
    index = indexes.open("p")
    with pytest.raises(ProjectNotFoundError):
        index.search(ask("needle"))
    index.close()


def test_what_was_set_aside_can_be_reopened_by_others(tmp_path: Path) -> None:
    indexes = filled(tmp_path)
    before = indexes.open("p")
    before.search(ask("parse"))
    indexes.forget("p")
    for _ in range(3):
        index = indexes.open("p", root="/r", versions="v", dimensions=DIMENSIONS)
        index.apply([file_of("new.py", ["parse"])], [], [])
        index.close()
        before.search(ask("parse"))
        assert paths(before.search(ask("parse")).hits) == ["new.py"]
        indexes.forget("p")
    before.close()


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    indexes = filled(tmp_path)
    indexes.forget("p")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / ".new.sqlite").write_bytes(b"half")
    (tmp_path / ".gone-1234").mkdir()
    (tmp_path / ".gone-1234" / "index.sqlite").write_bytes(b"old")
    assert indexes.names() == []
    index = indexes.open("p", root="/r", versions="v", dimensions=DIMENSIONS)
    index.close()
    assert indexes.names() == ["p"]
    indexes.forget("p")
    assert {path.name for path in tmp_path.iterdir()} == {".locks"}


def test_a_moved_project_keeps_its_index(tmp_path: Path) -> None:
    indexes = filled(tmp_path)
    old = indexes.open("p", root="/r", versions="v", dimensions=DIMENSIONS)
    moved = indexes.open("p", root="/elsewhere", versions="v", dimensions=DIMENSIONS)
    assert moved.state().root == "/elsewhere"
    assert moved.state().digest == old.state().digest
    assert indexes.find("/elsewhere") == "p"
    with pytest.raises(ProjectNotFoundError):
        old.apply([some_file("a.py", 1)], [], [])
    old.close()
    moved.close()
