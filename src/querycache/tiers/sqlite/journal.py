"""The durable journal of write-back: one small SQLite file for each process.

Design note. A process makes its file when it first has something to keep, and holds an exclusive
`flock` on a file beside it for as long as it lives: the kernel frees that lock when the process
dies, whatever it dies of. Whoever gets such a lock therefore has the journal of a dead process,
and nobody else has. A forked child lets go of what it inherited and begins a file of its own.

One thread writes, many operations in one transaction; an append is answered after the disk has
it (WAL, synchronous = FULL).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import queue
import secrets
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import apsw
import msgspec

from querycache.errors import TierError
from querycache.ports.journal import Recorded
from querycache.ports.tiers import Write
from querycache.tiers.sqlite.connection import (
    FAILURES,
    Cursor,
    check_version,
    connect,
    cursor_of,
    failure,
)

_BATCH: Final = 256  # operations in a transaction
_CACHE_KIB: Final = 256
_LOG_PAGES: Final = 1000
_PASSING: Final = (OSError, MemoryError, apsw.BusyError, apsw.CantOpenError, apsw.IOError)
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS waiting(number INTEGER PRIMARY KEY, key TEXT NOT NULL,"
    " data BLOB NOT NULL, expires REAL NOT NULL, tags BLOB NOT NULL, guard TEXT,"
    " tell INTEGER NOT NULL);"
    "CREATE INDEX IF NOT EXISTS waiting_key ON waiting(key, number)"
)

Run = Callable[[Cursor], object]


class _Operation(NamedTuple):
    run: Run
    loop: asyncio.AbstractEventLoop | None = None
    future: asyncio.Future[None] | None = None


class SqliteJournal:
    """Journals in `folder`, which all processes of this user share. As `ports.journal.Journal`."""

    def __init__(self, folder: str) -> None:
        """Touches nothing yet."""
        self._folder = Path(folder)
        self._begin()
        _OPEN.add(self)

    async def append(self, records: Sequence[Recorded]) -> None:
        rows = [_row(record) for record in records]

        def run(cursor: Cursor) -> None:
            for row in rows:
                cursor.execute("INSERT OR REPLACE INTO waiting VALUES(?,?,?,?,?,?,?)", row)

        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._put(_Operation(run, loop, future))
        await future

    def remove(self, key: str, number: int) -> None:
        if self._thread is None:
            return  # nothing was ever kept

        def run(cursor: Cursor) -> None:
            cursor.execute("DELETE FROM waiting WHERE key = ? AND number <= ?", (key, number))

        with suppress(TierError):
            self._put(_Operation(run))

    async def adopt(self) -> SqliteOrphans | None:
        return await asyncio.to_thread(self._adopt)

    async def close(self) -> None:
        _OPEN.discard(self)
        thread = self._thread
        with self._lock:
            closed, self._closed = self._closed, True
        if thread is not None and not closed:
            self._queue.put(None)
            await asyncio.to_thread(thread.join)

    def after_fork(self) -> None:
        """Makes a child independent: what is kept is its parent's."""
        if self._own is not None:
            self._own.abandon()
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[_Operation | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._own: _File | None = None
        self._closed = False

    def _put(self, operation: _Operation) -> None:
        with self._lock:
            if self._closed:
                raise TierError("the journal is closed")
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="querycache-journal", daemon=True
                )
                self._thread.start()
            self._queue.put(operation)

    def _work(self) -> None:
        more = True
        while more:
            batch, more = self._collect()
            error: TierError | None = None
            try:
                self._commit(batch)
            except FAILURES as caught:
                error = failure(caught)
            _answer(batch, error)
        if self._own is not None:
            self._own.close()

    def _collect(self) -> tuple[list[_Operation], bool]:
        batch: list[_Operation] = []
        operation = self._queue.get()
        with suppress(queue.Empty):
            while operation is not None:
                batch.append(operation)
                if len(batch) == _BATCH:
                    break
                operation = self._queue.get_nowait()
            else:
                return batch, False
        return batch, True

    def _commit(self, batch: Sequence[_Operation]) -> None:
        if not batch:
            return
        if self._own is None:
            self._own = _File.make(self._folder)
        cursor = self._own.cursor
        cursor.execute("BEGIN IMMEDIATE")
        try:
            for operation in batch:
                operation.run(cursor)
            cursor.execute("COMMIT")
        except BaseException:
            with suppress(*FAILURES):
                cursor.execute("ROLLBACK")
            raise

    def _adopt(self) -> SqliteOrphans | None:
        own = self._own
        for path in sorted(self._folder.glob("*.lock")):
            if own is not None and path == own.lock_path:
                continue
            try:
                file = _File.take(path)
            except FAILURES as error:
                raise failure(error) from error
            if file is None:
                continue
            try:
                records = file.records()
            except _PASSING:
                file.close()  # it may be read the next time
                continue
            except FAILURES:
                file.set_aside()  # nothing in it can be trusted
                continue
            if records:
                return SqliteOrphans(file, records)
            file.delete()
        return None


class SqliteOrphans:
    """The journal of a dead process. As `ports.journal.Orphans`."""

    def __init__(self, file: _File, records: list[Recorded]) -> None:
        self.records: Sequence[Recorded] = records
        self._file = file

    def done(self) -> None:
        self._file.delete()

    def let_go(self) -> None:
        self._file.close()


class _File:
    """A journal and the lock on it; `lock` is an open descriptor."""

    def __init__(self, lock_path: Path, lock: int) -> None:
        self.lock_path = lock_path
        self._path = lock_path.with_suffix(".sqlite")
        self._lock = lock
        self._connection: apsw.Connection | None = None

    @classmethod
    def make(cls, folder: Path) -> _File:
        """A new one. Raises what SQLite and the system raise."""
        check_version()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        path = folder / f"{os.getpid()}-{secrets.token_hex(8)}.lock"
        file = cls(path, os.open(path, flags, 0o600))
        try:
            fcntl.flock(file._lock, fcntl.LOCK_EX)
            if os.fstat(file._lock).st_nlink:
                os.close(os.open(file._path, flags, 0o600))
                return file
        except BaseException:
            file.delete()
            raise
        os.close(file._lock)  # somebody took it for a dead process's before it was locked
        return cls.make(folder)

    @classmethod
    def take(cls, path: Path) -> _File | None:
        """That of a dead process; None where its process lives, or somebody was faster."""
        try:
            lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_nlink:  # else it was replayed and deleted just now
                return cls(path, lock)
        except BlockingIOError:
            pass
        os.close(lock)
        return None

    @property
    def cursor(self) -> Cursor:
        if self._connection is None:
            self._connection = connect(str(self._path), cache_kib=_CACHE_KIB)
            cursor = cursor_of(self._connection)
            cursor.execute("PRAGMA journal_mode = WAL").fetchall()
            cursor.execute("PRAGMA synchronous = FULL").fetchall()
            cursor.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}").fetchall()
            cursor.execute(_SCHEMA).fetchall()
        return cursor_of(self._connection)

    def records(self) -> list[Recorded]:
        """What it holds, oldest first."""
        if not self._path.exists():
            return []
        rows = self.cursor.execute("SELECT * FROM waiting ORDER BY number").fetchall()
        return [_recorded(row) for row in rows]

    def delete(self) -> None:
        """It is needed no more. The lock goes last: until then nobody else looks at it."""
        self._end()
        for suffix in (".sqlite", ".sqlite-wal", ".sqlite-shm", ".lock"):
            self.lock_path.with_suffix(suffix).unlink(missing_ok=True)
        os.close(self._lock)

    def set_aside(self) -> None:
        """Keeps what does not open for a look, where nobody tries it again."""
        self._end()
        with suppress(FileNotFoundError):
            self._path.rename(self.lock_path.with_suffix(".damaged"))
        self.delete()

    def close(self) -> None:
        """Leaves what it holds to others; where that is nothing, it goes."""
        empty = False
        with suppress(*FAILURES):
            empty = not self.cursor.execute("SELECT 1 FROM waiting LIMIT 1").fetchall()
        if empty:
            self.delete()
            return
        self._end()
        os.close(self._lock)

    def abandon(self) -> None:
        """In a forked child: lets go of the lock, which stays its parent's."""
        os.close(self._lock)
        _INHERITED.append(self._connection)  # to close it would drop the parent's locks

    def _end(self) -> None:
        if self._connection is not None:
            with suppress(*FAILURES):
                self._connection.close(True)
            self._connection = None


def _row(record: Recorded) -> tuple[object, ...]:
    write = record.write
    guard = None if write.guard is None else str(write.guard)  # may be longer than 64 bits
    tags = msgspec.msgpack.encode(write.tags)
    return record.number, write.key, write.data, write.expires_at, tags, guard, int(write.tell)


def _recorded(row: tuple[object, ...]) -> Recorded:
    number, key, data, expires, tags, guard, tell = row
    if not (isinstance(number, int) and isinstance(key, str) and isinstance(data, bytes)):
        raise TypeError("the journal holds what was never written")
    if not (isinstance(expires, float) and isinstance(tags, bytes)):
        raise TypeError("the journal holds what was never written")
    names = msgspec.msgpack.decode(tags, type=tuple[str, ...])
    known = int(guard) if isinstance(guard, str) else None
    return Recorded(number, Write(key, data, expires, names, known, bool(tell)))


def _answer(batch: Sequence[_Operation], error: TierError | None) -> None:
    for operation in batch:
        if operation.loop is not None and operation.future is not None:
            with suppress(RuntimeError):  # the loop was closed: nobody waits
                operation.loop.call_soon_threadsafe(_resolve, operation.future, error)


def _resolve(future: asyncio.Future[None], error: TierError | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def _after_fork() -> None:
    for journal in list(_OPEN):
        journal.after_fork()


_INHERITED: list[object] = []
_OPEN: weakref.WeakSet[SqliteJournal] = weakref.WeakSet()
os.register_at_fork(after_in_child=_after_fork)
