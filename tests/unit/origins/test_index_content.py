"""What is written is what is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import msgspec
import pytest
from tests.behaviour.index_suite import DIMENSIONS, file_of, some_file

from querycache.origins import index_content as content
from querycache.origins.index_content import Meta
from querycache.origins.index_store import DamagedError, Store, create
from querycache.ports.origins import FileStat

META = Meta("p\ud800", "/r\udcff", "v", "m", DIMENSIONS, b"birth", 1 << 255, 7, 2, 9, 1.5)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    create(str(tmp_path / "x.sqlite"), lambda session: content.write_meta(session, META))
    store = Store(str(tmp_path / "x.sqlite"), nullcontext)
    yield store
    store.close()


def test_meta(store: Store) -> None:
    with store.reading() as session:
        assert content.read_meta(session) == META
    with store.writing() as session:
        content.write_meta(session, msgspec.structs.replace(META, change=8))
    with store.reading() as session:
        assert content.read_meta(session).change == 8


def test_a_file_comes_and_goes_whole(store: Store) -> None:
    file = some_file("src/a\udcff.py", 3)
    with store.writing() as session:
        content.insert(session, content.prepare(file, DIMENSIONS))
    with store.reading() as session:
        path = content.pack(file.stat.path)
        found = content.find_file(session, path)
        assert found is not None
        number, content_hash, language, chunks = found
        assert (content_hash, language) == (file.content_hash, file.language)
        assert chunks == len(file.chunks)
        whole = b"".join(chunk.vector for chunk in file.chunks)
        assert content.read_vectors(session, 0, DIMENSIONS) == [(number, whole)]
        assert content.read_names(session, number)[number].path == file.stat.path
        assert content.read_names(session, number + 1) == {}
    with store.writing() as session:
        content.delete(session, number, chunks)
    with store.reading() as session:
        assert content.find_file(session, path) is None
        assert session.row("SELECT count(*) FROM chunk") == (0,)
        assert session.row("SELECT count(*) FROM vector") == (0,)
        assert session.row("SELECT count(*) FROM words_docsize") == (0,)


def test_any_inode_is_kept(store: Store) -> None:
    stats = [FileStat(f"f{inode}", 1, -5, inode) for inode in (0, 1 << 62, 1 << 63, (1 << 64) - 1)]
    with store.writing() as session:
        for stat in stats:
            file = msgspec.structs.replace(file_of("x", []), stat=stat)
            content.insert(session, content.prepare(file, DIMENSIONS))
    with store.reading() as session:
        assert list(content.read_stats(session, [stat.path for stat in stats])) == stats


def test_vectors_that_are_not_what_was_written_are_damage(store: Store) -> None:
    with store.writing() as session:
        content.insert(session, content.prepare(file_of("a.py", ["one"]), DIMENSIONS))
        session.run("UPDATE vector SET data = zeroblob(length(data))")
    with pytest.raises(DamagedError), store.reading() as session:
        content.read_vectors(session, 0, DIMENSIONS)


def test_the_term_of_a_file_names_both_its_parts() -> None:
    terms = {content.content_term(*pair) for pair in ((b"a", "bc"), (b"ab", "c"), (b"a", "b"))}
    assert len(terms) == 3
