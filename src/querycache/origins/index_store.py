"""The SQLite file of one index: its schema, its connections, and what damage to it looks like.

A file may be renamed away while other processes have it open (`forget`, damage), and another may
take its place. Three rules keep the two apart. A connection opens all its files under the shared
guard, and renames happen under the exclusive one, so no connection mixes files of both. The WAL is
persistent: the last connection to close a renamed file would otherwise unlink by name the WAL of
its successor. And each transaction first compares the inode that the name has now with the one
that was opened; an idle connection keeps its inode from being given to another file.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from ctypes import addressof, c_int
from typing import Any, NamedTuple, cast
from zlib import crc32

import apsw

from querycache.errors import ClosedError, IndexBusyError, ProjectNotFoundError, QueryCacheError
from querycache.origins.identifiers import VERSION as WORDS

FORMAT = crc32(f"querycache index 2, {WORDS}".encode()) >> 1
"""Changes with the schema and with what the words of a text are. 31 bits: `user_version`."""

BUSY_MS = 10_000

Value = str | int | float | bytes | None

_SCHEMA = """
CREATE TABLE meta(
  one INTEGER PRIMARY KEY CHECK (one = 1),
  name BLOB NOT NULL, root BLOB NOT NULL, versions TEXT NOT NULL,
  model TEXT NOT NULL, dimensions INTEGER NOT NULL,
  birth BLOB NOT NULL, content_sum BLOB NOT NULL, change INTEGER NOT NULL,
  files INTEGER NOT NULL, chunks INTEGER NOT NULL, indexed_at REAL NOT NULL
) STRICT;
CREATE TABLE file(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  path BLOB NOT NULL UNIQUE, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
  inode INTEGER NOT NULL, hash TEXT NOT NULL, language TEXT NOT NULL, chunks INTEGER NOT NULL
) STRICT;
CREATE TABLE chunk(
  id INTEGER PRIMARY KEY,
  start INTEGER NOT NULL, end INTEGER NOT NULL,
  start_line INTEGER NOT NULL, end_line INTEGER NOT NULL,
  symbol BLOB NOT NULL, text BLOB NOT NULL, text_hash TEXT NOT NULL, checksum BLOB NOT NULL
) STRICT;
CREATE INDEX chunk_text_hash ON chunk(text_hash);
CREATE TABLE vector(
  file INTEGER PRIMARY KEY, data BLOB NOT NULL, checksum BLOB NOT NULL
) STRICT;
CREATE TABLE shared(file INTEGER PRIMARY KEY, birth TEXT NOT NULL) STRICT;
CREATE VIRTUAL TABLE words USING fts5(
  symbol, path, body, content='', contentless_delete=1, tokenize='porter unicode61'
);
"""


class DamagedError(Exception):
    """The file is no sound index of this format. `inode` says which file was seen."""

    def __init__(self, reason: str, inode: int = 0) -> None:
        super().__init__(reason)
        self.inode = inode


class Session:
    """An open connection, for what its transaction asks and writes."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, bindings: Sequence[Value] = ()) -> Generator[tuple[Any, ...]]:
        """The rows as they are stepped to."""
        yield from self._run(statement, bindings)

    def row(self, statement: str, *bindings: Value) -> tuple[Any, ...]:
        """The only row; that there is none is damage."""
        found = list(self._run(statement, bindings))
        if not found:
            raise DamagedError("a row that others speak of is missing")
        return found[0]

    def run(self, statement: str, *bindings: Value) -> None:
        for _ in self._run(statement, bindings):
            pass

    def run_each(self, statement: str, rows: Iterable[Sequence[Value]]) -> None:
        self._connection.executemany(statement, rows)  # pyright: ignore[reportUnknownMemberType]  # as below

    def _run(self, statement: str, bindings: Sequence[Value]) -> Iterable[tuple[Any, ...]]:
        found = self._connection.execute(statement, bindings or None)  # pyright: ignore[reportUnknownMemberType]  # apsw's own stubs
        return cast("Iterable[tuple[Any, ...]]", found)


Guard = Callable[[], AbstractContextManager[None]]


class Store:
    """Connections to one file: a pool of readers and one writer. Safe under threads."""

    def __init__(self, path: str, guard: Guard) -> None:
        self._path = path
        self._guard = guard
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._idle: list[_Opened] = []
        self._writer: _Opened | None = None
        self._closed = False

    @contextmanager
    def reading(self) -> Generator[Session]:
        """A read transaction: one snapshot. Raises `DamagedError`, `ProjectNotFoundError`."""
        opened = self._take()
        sound = False
        try:
            with _translating(self._path, opened.inode):
                session = Session(opened.connection)
                session.run("BEGIN")
                try:
                    yield session
                finally:
                    _roll_back(opened.connection)
            sound = True
        except QueryCacheError:
            sound = True
            raise
        finally:
            self._give_back(opened, sound=sound)

    @contextmanager
    def writing(self) -> Generator[Session]:
        """A write transaction, committed at the end of the block unless it raises."""
        with self._writing:
            connection, inode = self._take_writer()
            with _translating(self._path, inode):
                session = Session(connection)
                session.run("BEGIN IMMEDIATE")
                try:
                    if self._present() != inode:  # renamed away before the lock was held
                        raise absent()  # noqa: TRY301 -- it must roll back
                    yield session
                    session.run("COMMIT")
                except BaseException:
                    _roll_back(connection)
                    raise

    def close(self) -> None:
        """Idempotent. A reader that is at work closes its connection itself."""
        with self._writing:
            with self._lock:
                self._closed = True
                idle, self._idle = self._idle, []
            for opened in idle:
                opened.connection.close()
            if self._writer is not None:
                self._writer.connection.close()
                self._writer = None

    def _take(self) -> _Opened:
        inode = self._present()
        while True:
            with self._lock:
                opened = self._idle.pop() if self._idle else None
            if opened is None:
                return self._open(write=False)
            if opened.inode == inode:
                return opened
            opened.connection.close()

    def _take_writer(self) -> _Opened:
        inode = self._present()
        if self._writer is not None and self._writer.inode != inode:
            self._writer.connection.close()
            self._writer = None
        if self._writer is None:
            self._writer = self._open(write=True)
        return self._writer

    def _give_back(self, opened: _Opened, *, sound: bool) -> None:
        with self._lock:
            if sound and not self._closed:
                self._idle.append(opened)
                return
        opened.connection.close()

    def _present(self) -> int:
        """The inode that has the name now."""
        if self._closed:
            raise ClosedError("the index was closed")
        try:
            return os.stat(self._path).st_ino  # noqa: PTH116 -- on every search
        except FileNotFoundError:
            raise absent() from None

    def _open(self, *, write: bool) -> _Opened:
        with self._guard():
            inode = self._present()
            with _translating(self._path, inode):
                return _Opened(connect(self._path, write=write), inode)


@contextmanager
def _translating(path: str, inode: int) -> Generator[None]:
    try:
        yield
    except DamagedError as error:
        raise DamagedError(str(error), inode) from error
    except (apsw.CorruptError, apsw.NotADBError, apsw.FormatError) as error:
        raise DamagedError(str(error), inode) from error
    except (apsw.BusyError, apsw.LockedError) as error:
        raise IndexBusyError(
            f"the index stayed locked for {BUSY_MS / 1000:.0f} s by another process",
            remedy="wait for the other indexing run to end",
        ) from error
    except apsw.Error as error:
        raise QueryCacheError(
            f"the index at {path} can't be used: {error}",
            remedy="check free space and permissions of the folder",
        ) from error


class _Opened(NamedTuple):
    connection: apsw.Connection
    inode: int


def connect(path: str, *, write: bool) -> apsw.Connection:
    """Opens an existing file with all that belongs to it. Raises apsw's errors and
    `DamagedError`.
    """
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.set_busy_timeout(BUSY_MS)
        _keep_wal(connection)
        _pragma(connection, "mmap_size", 0)
        _pragma(connection, "synchronous", "NORMAL")
        _pragma(connection, "cache_size", -32_768)  # KiB
        if write:
            _pragma(connection, "journal_size_limit", 64 << 20)
        else:
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            _pragma(connection, "query_only", 1)
        found = _pragma(connection, "user_version")  # the first read opens the WAL
        if found != FORMAT:
            raise DamagedError(f"its format is {found}, not {FORMAT}")  # noqa: TRY301 -- closes
    except BaseException:
        connection.close()
        raise
    return connection


def create(path: str, fill: Callable[[Session], None]) -> None:
    """Makes a whole, empty index where there is no file, readable by its owner only."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        _pragma(connection, "page_size", 8192)
        _pragma(connection, "journal_mode", "wal")
        with connection:
            session = Session(connection)
            session.run(_SCHEMA)
            fill(session)
            _pragma(connection, "user_version", FORMAT)
    finally:
        connection.close()


def _pragma(connection: apsw.Connection, name: str, value: int | str = "") -> object:
    """Sets it where a value is given."""
    found = connection.pragma(name, *([value] if value != "" else []))  # pyright: ignore[reportUnknownMemberType]  # as above
    return cast("object", found)


def absent() -> ProjectNotFoundError:
    return ProjectNotFoundError("no such project is indexed", remedy="index it first")


def _keep_wal(connection: apsw.Connection) -> None:
    on = c_int(1)
    connection.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, addressof(on))


def _roll_back(connection: apsw.Connection) -> None:
    if connection.in_transaction:
        with suppress(apsw.Error):  # a damaged file may refuse even this; the first error counts
            Session(connection).run("ROLLBACK")
