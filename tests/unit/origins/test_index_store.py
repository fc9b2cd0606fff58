"""Connections to one index file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from querycache.errors import ClosedError, ProjectNotFoundError, QueryCacheError
from querycache.origins.index_store import DamagedError, Session, Store, create

COUNT = "SELECT count(*) FROM file"


def nothing(_: Session) -> None:
    """An index that says nothing about itself."""


def add(session: Session, path: bytes) -> None:
    session.run("INSERT INTO file VALUES (NULL, ?, 1, 1, 1, 'h', 'python', 0)", path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create(str(tmp_path / "x.sqlite"), nothing)
    return tmp_path / "x.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(str(path), nullcontext)
    yield store
    store.close()


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    with pytest.raises(QueryCacheError), store.writing() as session:
        session.run_each(
            "INSERT INTO file VALUES (?, ?, 1, 1, 1, '', '', 0)", [(1, b"a"), (2, None)]
        )
    with store.reading() as session:
        assert session.row(COUNT) == (0,)


def test_a_reader_keeps_its_snapshot(store: Store) -> None:
    with store.reading() as before:
        assert before.row(COUNT) == (0,)
        with store.writing() as session:
            add(session, b"a")
        assert before.row(COUNT) == (0,)
        with store.reading() as after:
            assert after.row(COUNT) == (1,)


def test_a_reader_can_not_write(store: Store) -> None:
    with pytest.raises(QueryCacheError), store.reading() as session:
        add(session, b"a")


def test_an_existing_file_is_never_made_over(path: Path) -> None:
    with pytest.raises(FileExistsError):
        create(str(path), nothing)


def test_another_file_of_the_name_is_opened(store: Store, path: Path) -> None:
    with store.writing() as session:
        add(session, b"old")
    path.rename(path.with_name("aside"))
    with pytest.raises(ProjectNotFoundError), store.reading():
        pass
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).rename(path.with_name(f"aside{suffix}"))
    create(str(path), nothing)
    with store.reading() as session:
        assert session.row(COUNT) == (0,)
    with store.writing() as session:
        add(session, b"new")
    with store.reading() as session:
        assert list(session.rows("SELECT path FROM file")) == [(b"new",)]


def test_a_file_of_another_format_is_damage(store: Store, path: Path) -> None:
    with store.writing() as session:
        session.run("PRAGMA user_version = 1")
    other = Store(str(path), nullcontext)
    with pytest.raises(DamagedError) as raised, other.reading():
        pass
    assert raised.value.inode == path.stat().st_ino
    other.close()


def test_a_missing_row_is_damage(store: Store) -> None:
    with pytest.raises(DamagedError), store.reading() as session:
        session.row("SELECT * FROM meta")


def test_what_is_closed_says_so(store: Store) -> None:
    with store.reading() as session:
        store.close()
        assert session.row(COUNT) == (0,)
    with pytest.raises(ClosedError), store.reading():
        pass
    with pytest.raises(ClosedError), store.writing():
        pass
