"""The semantic arm of an index whose vectors are on a server too, shared by a team.

The index keeps its vectors and stays the truth; the server proposes. It holds what any machine of
the team ever indexed, so it is asked for more than is wanted, and what this index does not hold is
dropped. What is left is scored here, from the index's own rows, as the scan in memory would score
it. The answer is whole once all that was not proposed is less similar than the last that counts.
So a ranking is the same bit for bit whoever finds it, with the server or without.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from querycache.origins.index_content import check_vectors, read_vectors_of
from querycache.origins.index_signs import Floats, Integers
from querycache.origins.index_store import Session, Store
from querycache.origins.index_vectors import LEAST, ORDINAL_BITS, last_of, similarities

FEW_FILES = 64
"""A question about no more files than these is answered without the server."""

MOST = 16_384
"""Texts that the server is asked for, at most."""

SLACK = 1e-4
"""By how much the server's scores, summed in another order, may differ from ours. The bound for n
dimensions is n * 2^-24: 1,536 of them give 9.2e-5.
"""

_BATCH_FILES = 64


class VectorsUnavailableError(Exception):
    """The server can't serve this; the index does without it."""


class VectorStore(Protocol):
    """One model's vectors on a server, as one project sees them. A vector is found by the hash of
    its text. Blocking; everything raises `VectorsUnavailableError`.
    """

    def birth(self) -> str:
        """Drawn when the collection was made: it changes when all in it was lost. "" where there
        is none. It may be that of a while ago.
        """
        ...

    def fetch(self, texts: Sequence[str]) -> dict[str, bytes]:
        """Those that are there, whoever brought them."""
        ...

    def hold(self, vectors: Mapping[str, bytes]) -> str:
        """Sees to it that all are there, as the project's; the collection's birth. A vector that
        is there already stays as it is.
        """
        ...

    def nearest(self, query: Floats, limit: int, birth: str) -> dict[str, float]:
        """The `limit` texts of the project with the largest scores, and these: exact, up to
        rounding. Fewer only where there are no more; none in a collection of another birth.
        """
        ...

    def lost(self, texts: int) -> VectorsUnavailableError:
        """Notes that some of a project's texts are gone though they were held."""
        ...


def fetched(store: VectorStore | None, texts: Collection[str]) -> dict[str, bytes]:
    """What the server has of these texts; nothing where it can't be asked."""
    if store is None or not texts:
        return {}
    try:
        return store.fetch(list(texts))
    except VectorsUnavailableError:
        return {}


def held(store: VectorStore | None, vectors: Mapping[str, bytes]) -> str:
    """The birth of the collection that holds these vectors now, or ""."""
    if store is None:
        return ""
    try:
        return store.hold(vectors)
    except VectorsUnavailableError:
        return ""


def catch_up(vectors: VectorStore, store: Store, dimensions: int) -> None:
    """Brings to the server what an index holds and the server does not, as far as it goes."""
    birth = held(vectors, {})
    while birth:
        with store.reading() as session:
            files = _unshared(session, birth)
            rows = dict(_vectors_of_files(session, files, dimensions))
        if not files or held(vectors, rows) != birth:
            return
        with store.writing() as session:
            session.run(
                "INSERT OR REPLACE INTO shared SELECT id, ? FROM file"
                " WHERE id IN (SELECT value FROM json_each(?))",
                birth,
                json.dumps(files),
            )


def nearest(
    session: Session,
    store: VectorStore,
    dimensions: int,
    query: Floats,
    depth: int,
    files: Integers | None,
) -> list[tuple[int, float]]:
    """What `Matrix.nearest` gives, and some that are less similar. Raises
    `VectorsUnavailableError` where the scan in memory is to be asked.
    """
    if not query.any():
        return []
    if files is not None and len(files) <= FEW_FILES:
        return _scored(session, _chunks_in(session, files.tolist()), query, dimensions)
    birth = _birth_of_all(session, store)
    limit = 2 * depth
    while limit <= MOST:
        found = store.nearest(query, limit, birth)
        chunks = _chunks_of(session, found)
        if len(found) < limit:  # that was all
            _ensure_whole(session, store, found)
            return _scored(session, _within(chunks, files), query, dimensions)
        near = _scored(session, _within(chunks, files), query, dimensions)
        last = last_of(np.array([similar for _, similar in near]), depth)
        if min(found.values()) + SLACK < max(last, LEAST):
            return near
        limit *= 4
    raise VectorsUnavailableError("too little of what is near is in this index")


def _birth_of_all(session: Session, store: VectorStore) -> str:
    """The birth of the collection that holds all of the index."""
    birth = store.birth()
    files, shared = session.row(
        "SELECT (SELECT count(*) FROM file), (SELECT count(*) FROM shared WHERE birth = ?)",
        birth,
    )
    if not birth or files != shared:
        raise VectorsUnavailableError("not all of it is on the server yet")
    return birth


def _ensure_whole(session: Session, store: VectorStore, found: Collection[str]) -> None:
    """Given all that the server has of the project: that nothing of the index is missing."""
    missing = session.row(
        "SELECT count(DISTINCT text_hash) FROM chunk"
        " WHERE text_hash NOT IN (SELECT value FROM json_each(?))",
        json.dumps(list(found)),
    )[0]
    if missing:
        raise store.lost(missing)


def _scored(
    session: Session, chunks: Sequence[int], query: Floats, dimensions: int
) -> list[tuple[int, float]]:
    """(chunk, cosine) of the similar ones among these chunks, which are sorted."""
    width = 4 * dimensions
    numbers = sorted({chunk >> ORDINAL_BITS for chunk in chunks})
    data = dict(_blobs(session, numbers, dimensions))
    low = (1 << ORDINAL_BITS) - 1
    rows = b"".join(
        data[chunk >> ORDINAL_BITS][(chunk & low) * width : ((chunk & low) + 1) * width]
        for chunk in chunks
    )
    similar = similarities(np.frombuffer(rows, np.float32).reshape(-1, dimensions), query)
    return [pair for pair in zip(chunks, similar.tolist(), strict=True) if pair[1] >= LEAST]


def _chunks_of(session: Session, texts: Iterable[str]) -> list[int]:
    rows = session.rows(
        "SELECT id FROM chunk WHERE text_hash IN (SELECT value FROM json_each(?)) ORDER BY id",
        (json.dumps(list(texts)),),
    )
    return [row[0] for row in rows]


def _chunks_in(session: Session, files: Sequence[int]) -> list[int]:
    rows = session.rows(
        "SELECT id, chunks FROM file WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id",
        (json.dumps(files),),
    )
    return [(file << ORDINAL_BITS) + place for file, count in rows for place in range(count)]


def _within(chunks: Sequence[int], files: Integers | None) -> list[int]:
    if files is None:
        return list(chunks)
    allowed = set(files.tolist())
    return [chunk for chunk in chunks if chunk >> ORDINAL_BITS in allowed]


def _blobs(session: Session, files: Sequence[int], dimensions: int) -> Iterable[tuple[int, bytes]]:
    """The vectors of each file."""
    rows = session.rows(
        "SELECT file, data, checksum FROM vector"
        " WHERE file IN (SELECT value FROM json_each(?)) ORDER BY file",
        (json.dumps(files),),
    )
    for file, data, checksum in rows:
        check_vectors(data, checksum, dimensions)
        yield file, data


def _unshared(session: Session, birth: str) -> list[int]:
    """Some files that are not marked as held by the collection of this birth."""
    rows = session.rows(
        "SELECT id FROM file WHERE id NOT IN (SELECT file FROM shared WHERE birth = ?)"
        " ORDER BY id LIMIT ?",
        (birth, _BATCH_FILES),
    )
    return [row[0] for row in rows]


def _vectors_of_files(
    session: Session, files: Sequence[int], dimensions: int
) -> Iterable[tuple[str, bytes]]:
    texts: list[str] = [
        row[0]
        for row in session.rows(
            "SELECT DISTINCT text_hash FROM chunk WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(_chunks_in(session, files)),),
        )
    ]
    return read_vectors_of(session, texts, dimensions).items()
