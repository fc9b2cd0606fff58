"""The index of one project: files, text, words and vectors in one SQLite file.

Each change is one transaction, and each answer is read in one: hits, digest and the vectors in
memory are of the same change. The digest is a sum over the files, so that it follows from what is
indexed and not from how it came to be.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import msgspec

from querycache.errors import ProjectNotFoundError, UsageError
from querycache.origins import index_content as content
from querycache.origins.index_content import FileRows, Meta, read_meta
from querycache.origins.index_search import Near, search
from querycache.origins.index_shared import (
    VectorStore,
    VectorsUnavailableError,
    catch_up,
    fetched,
    held,
    nearest,
)
from querycache.origins.index_snapshot import Snapshot
from querycache.origins.index_store import DamagedError, Session, Store
from querycache.ports.origins import (
    FileStat,
    IndexedFile,
    IndexState,
    KnownFile,
    Question,
    Ranked,
)

_SUM = 1 << 256


class SqliteIndex:
    """`Index` in one SQLite file. Safe under threads; all that is asked while another process
    writes is answered from the last committed change.

    Raises `ProjectNotFoundError` once the project was forgotten, was indexed anew with another
    root or model, or its file turned out damaged (it is then set aside).
    """

    def __init__(
        self,
        store: Store,
        opened: Meta,
        *,
        semantic_weight: float,
        set_aside: Callable[[int], None],
        shared: VectorStore | None = None,
    ) -> None:
        self._store = store
        self._opened = opened
        self._semantic_weight = semantic_weight
        self._set_aside = set_aside
        self._shared = shared
        self._snapshot = Snapshot()
        self._snapshot_lock = threading.Lock()
        cores = os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(cores, "index-scan") if cores > 1 else None

    def state(self) -> IndexState:
        with self._reading() as session:
            return read_meta(session).state

    def known(self) -> dict[str, KnownFile]:
        with self._reading() as session:
            return content.read_known(session)

    def stats(self, paths: Sequence[str]) -> dict[str, FileStat]:
        with self._reading() as session:
            return {stat.path: stat for stat in content.read_stats(session, paths)}

    def vectors(self, text_hashes: Sequence[str]) -> dict[str, bytes]:
        with self._reading() as session:
            meta = self._same_model(read_meta(session))
            found = content.read_vectors_of(session, text_hashes, meta.dimensions)
        return found | fetched(self._shared, set(text_hashes) - found.keys())

    def apply(
        self,
        changed: Sequence[IndexedFile],
        removed: Sequence[str],
        touched: Sequence[FileStat],
        *,
        completed: float | None = None,
    ) -> IndexState:
        """In `changed` the last of equal paths counts; one whose content is what the index holds
        is only touched.
        """
        latest = {file.stat.path: file for file in changed}
        rows = [content.prepare(file, self._opened.dimensions) for file in latest.values()]
        chunks = [each for file in latest.values() for each in file.chunks]
        shared = held(self._shared, {each.text_hash: each.vector for each in chunks})
        with self._damage_reported(), self._store.writing() as session:
            meta = self._same_model(read_meta(session))
            if meta.root != self._opened.root:
                raise ProjectNotFoundError(
                    f"{meta.name!r} is now the index of another folder", remedy="open it again"
                )
            after = _removed(session, meta, [p for p in removed if p not in latest])
            for each in rows:
                after = _replaced(session, after, each, shared)
            content.touch(session, touched)
            if after.content_sum != meta.content_sum:
                after = msgspec.structs.replace(after, change=meta.change + 1)
            if completed is not None:
                after = msgspec.structs.replace(after, indexed_at=completed)
            if after != meta:
                content.write_meta(session, after)
        if completed is not None and self._shared is not None:
            with self._damage_reported():
                catch_up(self._shared, self._store, meta.dimensions)
        return after.state

    def search(self, question: Question) -> Ranked:
        """Raises `UsageError` where a semantic question has no vector or one of other size."""
        semantic = question.mode != "keyword"
        if semantic and question.vector is None:
            raise UsageError(f"a {question.mode} question needs a vector")
        alone = self._shared is None
        while True:
            with self._reading() as session:
                meta = read_meta(session)
                if semantic:
                    self._same_model(meta)
                    _check_size(question, meta)
                snapshot = self._current(session, meta, vectors=semantic and alone)
                if snapshot is None:
                    continue
                near = self._near(session, meta, snapshot, alone=alone) if semantic else None
                try:
                    answer = self._answer(session, meta, snapshot, question, near)
                except VectorsUnavailableError:
                    alone = True
                    continue
            filtered = question.language or question.path
            if semantic and not alone and not filtered:  # the server has answered
                self._forget_matrix()
            return answer

    def close(self) -> None:
        self._store.close()
        if self._pool is not None:
            self._pool.shutdown()

    def _near(self, session: Session, meta: Meta, snapshot: Snapshot, *, alone: bool) -> Near:
        if self._shared is not None and not alone:
            return partial(nearest, session, self._shared, meta.dimensions)
        matrix = snapshot.matrix
        assert matrix is not None  # noqa: S101 -- for the type checker
        return partial(matrix.nearest, pool=self._pool)

    def _answer(
        self,
        session: Session,
        meta: Meta,
        snapshot: Snapshot,
        question: Question,
        near: Near | None,
    ) -> Ranked:
        files = snapshot.files
        found = search(session, question, files, near, semantic_weight=self._semantic_weight)
        hits = content.read_hits(session, found, files)
        stats = content.read_stats(session, (hit.path for hit in hits))
        return Ranked(meta.state.digest, meta.change, hits, stats)

    def _current(self, session: Session, meta: Meta, *, vectors: bool) -> Snapshot | None:
        """None where another thread has read a later change: then ours is to be read again."""
        with self._snapshot_lock:
            if not self._snapshot.precedes(meta):
                return None
            self._snapshot = self._snapshot.current(session, meta, vectors=vectors)
            return self._snapshot

    def _forget_matrix(self) -> None:
        with self._snapshot_lock:
            if self._snapshot.matrix is not None:
                self._snapshot = replace(self._snapshot, matrix=None)

    def _same_model(self, meta: Meta) -> Meta:
        if meta.versions != self._opened.versions:
            raise ProjectNotFoundError(
                f"{meta.name!r} is now indexed with another model or chunker",
                remedy="open it again",
            )
        return meta

    @contextmanager
    def _reading(self) -> Generator[Session]:
        with self._damage_reported(), self._store.reading() as session:
            yield session

    @contextmanager
    def _damage_reported(self) -> Generator[None]:
        try:
            yield
        except DamagedError as error:
            self._set_aside(error.inode)
            raise ProjectNotFoundError(
                f"the index of {self._opened.name!r} is damaged and was set aside: {error}",
                remedy="index the project again; embeddings that are cached are not computed anew",
            ) from error


def _check_size(question: Question, meta: Meta) -> None:
    size = len(question.vector or b"") // 4
    if size != meta.dimensions:
        raise UsageError(f"the question's vector has {size} dimensions, not {meta.dimensions}")


def _removed(session: Session, meta: Meta, paths: Sequence[str]) -> Meta:
    for path in paths:
        packed = content.pack(path)
        found = content.find_file(session, packed)
        if found is not None:
            meta = _deleted(session, meta, packed, found)
    return meta


def _replaced(session: Session, meta: Meta, rows: FileRows, shared: str) -> Meta:
    file = rows.file
    found = content.find_file(session, rows.path)
    if found is not None:
        if found[1] == file.content_hash:
            content.touch(session, [file.stat])
            return meta
        meta = _deleted(session, meta, rows.path, found)
    content.insert(session, rows, shared)
    term = content.content_term(rows.path, file.content_hash)
    return msgspec.structs.replace(
        meta,
        content_sum=(meta.content_sum + term) % _SUM,
        files=meta.files + 1,
        chunks=meta.chunks + len(rows.chunks),
    )


def _deleted(session: Session, meta: Meta, path: bytes, found: tuple[int, str, str, int]) -> Meta:
    number, content_hash, _, chunks = found
    content.delete(session, number, chunks)
    return msgspec.structs.replace(
        meta,
        content_sum=(meta.content_sum - content.content_term(path, content_hash)) % _SUM,
        files=meta.files - 1,
        chunks=meta.chunks - chunks,
    )
