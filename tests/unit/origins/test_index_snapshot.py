"""A snapshot follows an index by what is new and what is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from tests.behaviour.index_suite import DIMENSIONS, some_file, some_paths

from querycache.origins.index import SqliteIndex
from querycache.origins.index_content import read_meta
from querycache.origins.index_snapshot import Snapshot
from querycache.origins.index_store import Store
from querycache.origins.indexes import SqliteIndexes


@pytest.fixture
def index(tmp_path: Path) -> Iterator[SqliteIndex]:
    indexes = SqliteIndexes(str(tmp_path))
    index = indexes.open("p", root="/r", versions="v", dimensions=DIMENSIONS)
    yield index
    index.close()


@pytest.fixture
def store(index: SqliteIndex, tmp_path: Path) -> Iterator[Store]:
    store = Store(str(tmp_path / index.state().name / "index.sqlite"), nullcontext)
    yield store
    store.close()


def follow(store: Store, snapshot: Snapshot, *, vectors: bool = True) -> Snapshot:
    with store.reading() as session:
        return snapshot.current(session, read_meta(session), vectors=vectors)


def test_it_is_what_one_read_anew_is(index: SqliteIndex, store: Store) -> None:
    snapshot = Snapshot()
    for version in range(6):
        edited = some_paths(12)[version:]
        index.apply([some_file(path, version) for path in edited], some_paths(12)[:version], [])
        snapshot, anew = follow(store, snapshot), follow(store, Snapshot())
        assert snapshot.files == anew.files
        assert (snapshot.birth, snapshot.change) == (anew.birth, anew.change)
        for matrix in (snapshot.matrix, anew.matrix):
            assert matrix is not None
        held = [
            {i: row.tobytes() for i, row, ok in zip(m.ids, m.rows, m.alive, strict=False) if ok}
            for m in (snapshot.matrix, anew.matrix)
            if m is not None
        ]
        assert held[0] == held[1]


def test_vectors_are_read_when_they_are_first_needed(index: SqliteIndex, store: Store) -> None:
    index.apply([some_file(path, 1) for path in some_paths(4)], [], [])
    names = follow(store, Snapshot(), vectors=False)
    assert names.matrix is None
    assert len(names.files) == 4
    assert follow(store, names, vectors=False) is names
    assert follow(store, names).matrix is not None


def test_nothing_new_is_the_same_snapshot(index: SqliteIndex, store: Store) -> None:
    index.apply([some_file("a.py", 1)], [], [])
    snapshot = follow(store, Snapshot())
    assert follow(store, snapshot) is snapshot
    index.apply([], ["a.py"], [])
    assert follow(store, snapshot) is not snapshot
