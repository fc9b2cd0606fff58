"""The rows of an index: how files, chunks and vectors are written to its file and read back.

The text and the vectors of a chunk carry a checksum each: SQLite does not notice a flipped bit in
a value.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple, cast

import msgspec
import xxhash

from querycache.errors import UsageError
from querycache.keys import digest
from querycache.origins.identifiers import split_identifiers
from querycache.origins.index_search import FileName, Found
from querycache.origins.index_store import DamagedError, Session
from querycache.origins.index_vectors import ORDINAL_BITS
from querycache.ports.origins import FileStat, Hit, IndexedFile, IndexState, KnownFile

_FLOAT_BYTES = 4


class Meta(msgspec.Struct, frozen=True):
    """The one row about the index as a whole. `birth` is drawn when the file is made;
    `content_sum` is the sum over its files of a hash of path and content, modulo 2^256.
    """

    name: str
    root: str
    versions: str
    model: str
    dimensions: int
    birth: bytes
    content_sum: int
    change: int
    files: int
    chunks: int
    indexed_at: float

    @property
    def state(self) -> IndexState:
        return IndexState(
            name=self.name,
            root=self.root,
            digest=digest(self.versions, self.content_sum.to_bytes(32)),
            change=self.change,
            files=self.files,
            chunks=self.chunks,
            indexed_at=self.indexed_at,
            versions=self.versions,
        )


def read_meta(session: Session) -> Meta:
    name, root, versions, model, dimensions, birth, content_sum, *rest = session.row(
        "SELECT name, root, versions, model, dimensions, birth, content_sum, change, files,"
        " chunks, indexed_at FROM meta"
    )
    content_sum = int.from_bytes(content_sum)
    return Meta(unpack(name), unpack(root), versions, model, dimensions, birth, content_sum, *rest)


def write_meta(session: Session, meta: Meta) -> None:
    session.run(
        "INSERT OR REPLACE INTO meta VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        pack(meta.name),
        pack(meta.root),
        meta.versions,
        meta.model,
        meta.dimensions,
        meta.birth,
        meta.content_sum.to_bytes(32),
        meta.change,
        meta.files,
        meta.chunks,
        meta.indexed_at,
    )


class _ChunkRow(NamedTuple):
    start: int
    end: int
    start_line: int
    end_line: int
    symbol: bytes
    text: bytes
    text_hash: str
    checksum: bytes


class FileRows(NamedTuple):
    """A file made ready before the write lock is taken."""

    file: IndexedFile
    path: bytes
    chunks: list[_ChunkRow]
    words: list[tuple[str, str, str]]
    vectors: bytes


def prepare(file: IndexedFile, dimensions: int) -> FileRows:
    """Raises `UsageError` for vectors of another size."""
    chunks: list[_ChunkRow] = []
    words: list[tuple[str, str, str]] = []
    path_words = _words(file.stat.path)
    ordered = sorted(file.chunks, key=lambda each: each.chunk.start)
    if len(ordered) >> ORDINAL_BITS:
        raise UsageError(f"{file.stat.path} has {len(ordered)} chunks")
    for each in ordered:
        chunk = each.chunk
        if len(each.vector) != _FLOAT_BYTES * dimensions:
            raise UsageError(
                f"a vector of {file.stat.path} has {len(each.vector)} bytes, not"
                f" {_FLOAT_BYTES} for each of {dimensions} dimensions"
            )
        symbol, text = pack(chunk.symbol), pack(chunk.text)
        place = (chunk.start, chunk.end, chunk.start_line, chunk.end_line)
        chunks.append(
            _ChunkRow(*place, symbol, text, each.text_hash, _chunk_checksum(place, symbol, text))
        )
        words.append((_words(chunk.symbol), path_words, _words(chunk.text)))
    vectors = b"".join(each.vector for each in ordered)
    return FileRows(file, pack(file.stat.path), chunks, words, vectors)


def insert(session: Session, rows: FileRows, shared: str = "") -> None:
    """`shared` is the birth of the collection that holds the vectors too, or ""."""
    stat = rows.file.stat
    number: int = session.row(
        "INSERT INTO file(path, size, mtime_ns, inode, hash, language, chunks)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
        rows.path,
        stat.size,
        stat.mtime_ns,
        _signed(stat.inode),
        rows.file.content_hash,
        rows.file.language,
        len(rows.chunks),
    )[0]
    first = number << ORDINAL_BITS
    session.run_each(
        "INSERT INTO chunk VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        ((first + place, *row) for place, row in enumerate(rows.chunks)),
    )
    session.run_each(
        "INSERT INTO words(rowid, symbol, path, body) VALUES (?, ?, ?, ?)",
        ((first + place, *row) for place, row in enumerate(rows.words)),
    )
    session.run(
        "INSERT INTO vector VALUES (?, ?, ?)",
        number,
        rows.vectors,
        xxhash.xxh3_64_digest(rows.vectors),
    )
    if shared:
        session.run("INSERT INTO shared VALUES (?, ?)", number, shared)


def delete(session: Session, number: int, chunks: int) -> None:
    first = number << ORDINAL_BITS
    numbers = [(first + place,) for place in range(chunks)]
    session.run_each("DELETE FROM words WHERE rowid = ?", numbers)
    session.run_each("DELETE FROM chunk WHERE id = ?", numbers)
    session.run("DELETE FROM vector WHERE file = ?", number)
    session.run("DELETE FROM shared WHERE file = ?", number)
    session.run("DELETE FROM file WHERE id = ?", number)


def empty(session: Session) -> None:
    session.run(
        "DELETE FROM file; DELETE FROM chunk; DELETE FROM vector; DELETE FROM shared;"
        " INSERT INTO words(words) VALUES ('delete-all')"
    )


def find_file(session: Session, path: bytes) -> tuple[int, str, str, int] | None:
    """(number, content hash, language, chunks)."""
    rows = session.rows("SELECT id, hash, language, chunks FROM file WHERE path = ?", (path,))
    return cast("tuple[int, str, str, int] | None", next(rows, None))


def touch(session: Session, stats: Iterable[FileStat]) -> None:
    session.run_each(
        "UPDATE file SET size = ?, mtime_ns = ?, inode = ? WHERE path = ?",
        ((s.size, s.mtime_ns, _signed(s.inode), pack(s.path)) for s in stats),
    )


def read_known(session: Session) -> dict[str, KnownFile]:
    rows = session.rows("SELECT path, size, mtime_ns, inode, hash, language, chunks FROM file")
    known: dict[str, KnownFile] = {}
    for packed, size, mtime_ns, inode, content_hash, language, chunks in rows:
        path = unpack(packed)
        stat = FileStat(path, size, mtime_ns, _unsigned(inode))
        known[path] = KnownFile(stat, content_hash, language, chunks)
    return known


def read_names(session: Session, since: int) -> dict[int, FileName]:
    """The files numbered `since` and higher."""
    rows = session.rows("SELECT id, path, language FROM file WHERE id >= ? ORDER BY id", (since,))
    return {number: FileName(unpack(path), language) for number, path, language in rows}


def read_vectors(session: Session, since: int, dimensions: int) -> list[tuple[int, bytes]]:
    """The vectors of the files numbered `since` and higher."""
    rows = session.rows(
        "SELECT file, data, checksum FROM vector WHERE file >= ? ORDER BY file", (since,)
    )
    found: list[tuple[int, bytes]] = []
    for number, data, checksum in rows:
        check_vectors(data, checksum, dimensions)
        found.append((number, data))
    return found


def read_vectors_of(
    session: Session, text_hashes: Sequence[str], dimensions: int
) -> dict[str, bytes]:
    width = _FLOAT_BYTES * dimensions
    rows = session.rows(
        "SELECT text_hash, min(id) FROM chunk"
        " WHERE text_hash IN (SELECT value FROM json_each(?)) GROUP BY text_hash ORDER BY 2",
        (json.dumps(list(text_hashes)),),
    )
    found: dict[str, bytes] = {}
    current, data = -1, b""
    for text_hash, chunk in rows:
        number, place = chunk >> ORDINAL_BITS, chunk & ((1 << ORDINAL_BITS) - 1)
        if number != current:
            current = number
            data, checksum = session.row(
                "SELECT data, checksum FROM vector WHERE file = ?", number
            )
            check_vectors(data, checksum, dimensions)
        found[text_hash] = data[place * width : (place + 1) * width]
    return found


def read_hits(
    session: Session, found: Iterable[Found], files: Mapping[int, FileName]
) -> tuple[Hit, ...]:
    return tuple(_read_hit(session, each, files[each.chunk >> ORDINAL_BITS]) for each in found)


def _read_hit(session: Session, found: Found, file: FileName) -> Hit:
    *place, symbol, text, checksum = session.row(
        "SELECT start, end, start_line, end_line, symbol, text, checksum FROM chunk WHERE id = ?",
        found.chunk,
    )
    if checksum != _chunk_checksum(tuple(place), symbol, text):
        raise DamagedError(f"chunk {found.chunk} is not what was written")
    return Hit(
        path=file.path,
        start_line=place[2],
        end_line=place[3],
        symbol=unpack(symbol),
        language=file.language,
        score=found.score,
        text=unpack(text),
        semantic_rank=found.semantic_rank,
        keyword_rank=found.keyword_rank,
        similarity=found.similarity,
    )


def read_stats(session: Session, paths: Iterable[str]) -> tuple[FileStat, ...]:
    """Of those that are there, in the order of first appearance."""
    wanted = {pack(path): path for path in paths}
    marks = ",".join("?" * len(wanted))
    rows = session.rows(
        f"SELECT path, size, mtime_ns, inode FROM file WHERE path IN ({marks})",  # noqa: S608 -- marks
        tuple(wanted),
    )
    found = {
        path: FileStat(wanted[path], size, mtime, _unsigned(inode))
        for path, size, mtime, inode in rows
    }
    return tuple(found[path] for path in wanted if path in found)


def content_term(path: bytes, content_hash: str) -> int:
    """What a file adds to the content sum."""
    state = blake2b(b"%d:" % len(path), digest_size=32)
    state.update(path)
    state.update(content_hash.encode())
    return int.from_bytes(state.digest())


def pack(text: str) -> bytes:
    """Any str, a file name that is no UTF-8 too."""
    return text.encode("utf-8", "surrogatepass")


def unpack(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _words(text: str) -> str:
    return split_identifiers(text).encode("utf-8", "replace").decode()


def _chunk_checksum(place: tuple[int, ...], symbol: bytes, text: bytes) -> bytes:
    state = xxhash.xxh3_64(repr((place, len(symbol))).encode())
    state.update(symbol)
    state.update(text)
    return state.digest()


def check_vectors(data: bytes, checksum: bytes, dimensions: int) -> None:
    if xxhash.xxh3_64_digest(data) != checksum or len(data) % (_FLOAT_BYTES * dimensions):
        raise DamagedError("vectors are not what was written")


def _signed(inode: int) -> int:
    """An unsigned 64-bit number as SQLite can store it."""
    return inode - (1 << 64) if inode >> 63 else inode


def _unsigned(inode: int) -> int:
    return inode & ((1 << 64) - 1)
