"""The open embedded store: its connections, and its next life when its files are damaged or gone.

Design note. A `Life` is one database file with its epoch file and its connections. It ends when
SQLite reports damage, when the files at the paths are no longer the open ones, or when an
invalidation can't be written: then the epoch file is retired, which all processes see at their
next look, and whoever comes first sets the database aside and begins an empty one of another
identity, under the folder's lock; the rest open that. Connections are opened under the same lock,
so that none ever joins one life's database with another's write-ahead log.

Each thread reads through a connection of its own; one that belongs to an ended life is closed by
its thread at its next read. After a fork the child leaks its parent's connections: to close them
would touch locks and shared memory that the parent still uses.
"""

from __future__ import annotations

import ctypes
import secrets
import threading
import weakref
from itertools import starmap
from typing import Final

import apsw

from querycache.clock import Clock
from querycache.errors import TierError
from querycache.tiers.backplane import EpochFile, LogRow
from querycache.tiers.sqlite.connection import (
    FAILURES,
    Cursor,
    DamagedError,
    EndedError,
    NotOpenError,
    check_version,
    connect,
    cursor_of,
    failure,
    patience,
)
from querycache.tiers.sqlite.files import Files, Inodes

GUARD_BITS: Final = 64
"""A guard is the identity of the database, shifted by this, and the last id of its log: a guard of
an earlier life is never taken for one of this.
"""

PAGE_BYTES: Final = 8192
"""Of the database: an embedding of 1,536 numbers lies in one page."""

_FORMAT: Final = 1
_FRAME_BYTES: Final = 24  # what the log adds to a page
_LOG_PAGES: Final = 512
_LEAST_LOG_PAGES: Final = 32
_READ_CACHE_KIB: Final = 32 * 1024
_WRITE_CACHE_KIB: Final = 4 * 1024
_READ_PATIENCE_S: Final = 0.1  # a read waits on the event loop, and only while a log is recovered
_STRAYS: Final = 3  # I/O errors in a row after which the file is not trusted

_SCHEMA: Final = f"""
CREATE TABLE entry(
    key TEXT PRIMARY KEY, expires REAL NOT NULL, used INTEGER NOT NULL, size INTEGER NOT NULL,
    data BLOB NOT NULL);
CREATE INDEX entry_expires ON entry(expires);
CREATE INDEX entry_used ON entry(used);
CREATE TABLE counter(tag TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE log(
    id INTEGER PRIMARY KEY AUTOINCREMENT, source INTEGER NOT NULL, is_tag INTEGER NOT NULL,
    name TEXT NOT NULL);
CREATE TABLE lease(
    key TEXT PRIMARY KEY, token TEXT NOT NULL, since REAL NOT NULL, seconds REAL NOT NULL
    ) WITHOUT ROWID;
CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {_FORMAT};
"""


class Life:
    """One database file while it is open. `writer` belongs to the writer thread; a forked child
    has none yet.
    """

    def __init__(
        self, file: EpochFile, identity: int, inodes: Inodes, writer: apsw.Connection | None
    ) -> None:
        self.file = file
        self.words = file.words
        self.identity = identity
        self.inodes = inodes
        self.writer = writer
        self.guard = identity << GUARD_BITS

    def writer_or_raise(self) -> apsw.Connection:
        if self.writer is None:
            raise NotOpenError("the embedded store has not been opened since the fork")
        return self.writer


class _Thread(threading.local):
    """What a thread reads through."""

    life: Life | None = None
    cursor: Cursor | None = None


class Store:
    """The database of a folder as one process has it open.

    Attributes:
        life: The present one; only the constructor and the writer thread replace it.
        source: Who this process is in the log.
        log_pages: How long the write-ahead log may grow before it is moved into the database.
        patience_s: How long a writer waits for its turn.
        rebuilt: How often a damaged or missing database was replaced by an empty one.
    """

    def __init__(
        self, folder: str, *, clock: Clock, max_bytes: int, busy_timeout_s: float
    ) -> None:
        """Opens or makes the store. Raises `TierError`."""
        check_version()
        self.files = Files(folder)
        self.rebuilt = 0
        self._max_bytes = max_bytes
        self.source = secrets.randbits(62)
        self._clock = clock
        self.patience_s = busy_timeout_s
        self._closed = False
        self._errors = 0  # I/O errors in a row
        self._thread = _Thread()
        self._readers: weakref.WeakSet[apsw.Connection] = weakref.WeakSet()
        self.life = self._open()

    def reader(self, life: Life | None = None) -> Cursor:
        """This thread's cursor on the present life. Raises `TierError`, also where `life` is no
        longer the present one.
        """
        thread = self._thread
        if life is None:
            life = self.life
        if thread.life is life and thread.cursor is not None:
            return thread.cursor
        if thread.cursor is not None:
            thread.cursor.connection.close(True)
            thread.cursor = thread.life = None
        try:
            connection, cursor = self._open_reader(life)
        except FAILURES as error:
            raise self.note(error, life) from error
        self._readers.add(connection)
        thread.life, thread.cursor = life, cursor
        return cursor

    def note(self, error: BaseException, life: Life | None = None) -> TierError:
        """Says what an error of `life` was, and ends that life where it can't be trusted."""
        found = failure(error)
        if isinstance(error, apsw.IOError):
            self._errors += 1
        unsynced = getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_FSYNC
        if isinstance(found, DamagedError) or unsynced or self._errors >= _STRAYS:
            self.distrust(life or self.life)
        return found

    def distrust(self, life: Life) -> None:
        """Ends a life: what is on the disk is unknown."""
        self._errors = 0
        life.file.retire()

    def forgive(self) -> None:
        """The disk took a write: earlier I/O errors were strays."""
        self._errors = 0

    def ensure(self) -> Life:
        """The present life, or the next where it has ended. Only for the writer thread."""
        life = self.life
        if life.writer is not None:
            if not life.file.retired and self.files.inodes() == life.inodes:
                return life
            life.file.retire()
            life.writer.close(True)
        try:
            self.life = self._open()
        except TierError as error:
            raise NotOpenError(str(error), remedy=error.remedy) from error
        if self.life.identity != life.identity:
            self.rebuilt += 1
        return self.life

    def discard(self) -> None:
        """Ends the life and gives its room back. Only for the writer thread."""
        life = self.life
        life.file.retire()
        try:
            with self.files.locked(self.patience_s):
                found = EpochFile.open(self.files.epoch)
                if found is None or found.identity == life.identity:
                    self.files.discard()
        except OSError as error:
            raise failure(error) from error

    def last(self, file: EpochFile) -> int:
        """As `backplane.Journal`."""
        rows = self._query(file, "SELECT coalesce(max(seq), 0), 0, 0, '' FROM sqlite_sequence")
        return rows[0].id

    def rows(self, file: EpochFile, after: int) -> list[LogRow]:
        """As `backplane.Journal`."""
        sql = "SELECT id, source, is_tag, name FROM log WHERE id > ? ORDER BY id"
        return self._query(file, sql, after)

    def close(self) -> None:
        """Closes all connections; no thread may be reading."""
        self._closed = True
        for connection in self._connections():
            connection.close(True)

    def after_fork(self) -> None:
        """Makes a child of the process a process of its own."""
        for connection in self._connections():
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
        cursor = self._thread.cursor
        if cursor is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(cursor))
        self._readers = weakref.WeakSet()
        self._thread = _Thread()
        self.source = secrets.randbits(62)
        life = self.life
        self.life = Life(life.file, life.identity, life.inodes, None)

    def _connections(self) -> list[apsw.Connection]:
        writer = self.life.writer
        return [*self._readers, *([] if writer is None else [writer])]

    def _query(self, file: EpochFile, sql: str, *values: int) -> list[LogRow]:
        life = self.life
        if life.file is not file:
            raise EndedError("the embedded store was reopened")
        try:
            found = list(starmap(LogRow, self.reader(life).execute(sql, values).fetchall()))
        except FAILURES as error:
            raise self.note(error, life) from error
        if any(type(row.id) is not int or type(row.name) is not str for row in found):
            raise self.note(DamagedError("the log holds what was never written"), life)
        return found

    def _open_reader(self, life: Life) -> tuple[apsw.Connection, Cursor]:
        with self.files.locked(self.patience_s):
            if self._closed:
                raise TierError("the embedded store is closed")
            if self.files.inodes() != life.inodes:
                life.file.retire()
            if life is not self.life or life.file.retired:
                raise EndedError("the embedded store is being reopened")
            connection = connect(self.files.database, cache_kib=_READ_CACHE_KIB)
            connection.set_busy_timeout(int(_READ_PATIENCE_S * 1000))
            cursor = cursor_of(connection)
            cursor.execute("PRAGMA query_only = 1").fetchall()
            cursor.execute("SELECT value FROM meta").fetchall()  # opens the log as well
        return connection, cursor

    def _open(self) -> Life:
        try:
            self.files.prepare()
            with self.files.locked(self.patience_s):
                return self._open_files()
        except FAILURES as error:
            raise failure(error) from error

    def _open_files(self) -> Life:
        file = EpochFile.open(self.files.epoch)
        if file is not None and file.retired:
            self._set_aside()
            file = None
        try:
            writer, identity = self._open_database()
        except FAILURES as error:
            if not isinstance(failure(error), DamagedError):
                raise
            if file is not None:
                file.retire()
                file = None
            self.rebuilt += 1
            self._set_aside()
            writer, identity = self._open_database()
        if file is None or file.identity != identity:
            if file is not None:
                file.retire()
            file = EpochFile.create(self.files.epoch, identity)
        room = min(self._max_bytes // 8, self.files.total() // 16) // PAGE_BYTES
        self.log_pages = max(_LEAST_LOG_PAGES, min(_LOG_PAGES, room))
        self.files.prepare_for_full(self.log_pages * (PAGE_BYTES + _FRAME_BYTES))
        return Life(file, identity, self.files.inodes(), writer)

    def _open_database(self) -> tuple[apsw.Connection, int]:
        """A connection to write through, and the identity of the database."""
        self.files.touch()
        connection = connect(self.files.database, cache_kib=_WRITE_CACHE_KIB)
        try:
            return connection, self._identify(connection)
        except BaseException:
            connection.close(True)
            raise

    def _identify(self, connection: apsw.Connection) -> int:
        connection.set_busy_timeout(int(self.patience_s * 1000))
        cursor = cursor_of(connection)
        made = cursor.execute("SELECT count(*) FROM sqlite_master").get == 0
        if made:
            cursor.execute(f"PRAGMA page_size = {PAGE_BYTES}").fetchall()
            cursor.execute("PRAGMA auto_vacuum = 2").fetchall()
        if cursor.execute("PRAGMA journal_mode = wal").get != "wal":
            raise TierError(
                f"{self.files.folder} is on a file system that can't hold a shared database",
                remedy="Choose a folder on a local disk (QUERYCACHE_HOME), or use Redis.",
            )
        cursor.execute("PRAGMA synchronous = 1").fetchall()
        if made:
            with connection:
                cursor.execute(_SCHEMA).fetchall()
                values = ("epoch", secrets.randbits(62) | 1)
                cursor.execute("INSERT INTO meta VALUES(?, ?)", values)
        if cursor.execute("PRAGMA user_version").get != _FORMAT:
            raise DamagedError("the embedded store is of another format")
        identity = cursor.execute("SELECT value FROM meta WHERE name = 'epoch'").get
        if not isinstance(identity, int):
            raise DamagedError("the embedded store has no identity")
        connection.set_busy_handler(patience(self.patience_s))
        return identity

    def _set_aside(self) -> None:
        self.files.set_aside(int(self._clock.wall() * 1000))
