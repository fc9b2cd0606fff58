"""How the writer thread commits: one transaction, its epoch, its log, and a disk that is full."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import apsw

from querycache.clock import Clock
from querycache.tiers.sqlite.connection import (
    FAILURES,
    EndedError,
    cursor_of,
    failure,
    patience,
)
from querycache.tiers.sqlite.store import PAGE_BYTES, Life, Store
from querycache.tiers.sqlite.transaction import Transaction

Run = Callable[[Transaction], object]

_SHARE: Final = 0.1  # of the entries that a full disk costs
_VERY_LONG: Final = 16  # times the usual length of the log
_SHORTLY_S: Final = 0.05


class Committer:
    """Runs transactions on the store's present life. For one thread only.

    Attributes:
        clogged: Whether the log grows because a reader stands still (a stopped process).
    """

    def __init__(self, store: Store, *, clock: Clock, max_bytes: int) -> None:
        self.clogged = False
        self._store = store
        self._clock = clock
        self._max_bytes = max_bytes
        self._capped = max_bytes
        self._short = False  # of the reserve
        self._life: Life | None = None
        self._log: int | None = None  # a descriptor of the write-ahead log
        self._log_pages = 0

    def look_after(self) -> None:
        """Begins a new life where the present one has ended; ends what a dead writer began."""
        try:
            life = self._store.ensure()
            if self._short:
                self._short = not self._store.files.prepare_for_full(0)
            if life is not self._life or not life.file.settled:
                self.commit([])
        except FAILURES as error:
            self._store.note(error)

    def commit(self, runs: Sequence[Run]) -> list[object]:
        """One transaction; what each run returned. Raises what SQLite raised."""
        life, connection = self._adopt()
        cursor = cursor_of(connection)
        cursor.execute("BEGIN IMMEDIATE")
        mark: int | None = None
        try:
            _check(life)
            life.file.mend()
            transaction = Transaction(
                cursor,
                identity=life.identity,
                source=self._store.source,
                now=self._clock.wall(),
                max_bytes=self._cap(connection),
            )
            results = [run(transaction) for run in runs]
            if transaction.logged:
                mark = life.file.begin()
                _check(life)
            cursor.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise
        finally:
            if mark is not None:
                life.file.end(mark)
        if transaction.durable:
            self._sync()
        if runs:
            self._store.forgive()
        return results

    def _adopt(self) -> tuple[Life, apsw.Connection]:
        """The present life and its connection."""
        life = self._store.ensure()
        connection = life.writer_or_raise()
        if life is not self._life:
            if self._log is not None:
                os.close(self._log)
            self._log = None
            self._life = life
            connection.set_wal_hook(self._note_pages)
        return life, connection

    def _note_pages(self, connection: apsw.Connection, database: str, pages: int) -> int:
        del connection, database
        self._log_pages = pages
        return apsw.SQLITE_OK

    def _sync(self) -> None:
        """Has the disk hold what was committed. After the commit, so that others need not wait."""
        if self._log is None:
            self._log = os.open(self._store.files.log, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(self._log)
        except OSError as error:
            self._store.distrust(self._store.life)
            raise failure(error) from error

    def checkpoint(self) -> None:
        """Moves the write-ahead log into the database when it is long. The next writer then begins
        it anew, unless a reader that stands still (a stopped process) needs what is in it.
        """
        if (
            self._log_pages < self._store.log_pages
            or self._life is None
            or self._life.writer is None
        ):
            return
        try:
            pages, moved = self._life.writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except FAILURES as error:
            self._store.note(error)
        else:
            self._log_pages = max(0, pages - moved)
            self.clogged = self._log_pages > _VERY_LONG * self._store.log_pages

    def make_room(self) -> None:
        """Gives up the reserve and the least recently used entries."""
        self._short = True
        for step in (self._store.files.free_room, self._restart_log, self._evict):
            with suppress(*FAILURES):
                step()
        with suppress(*FAILURES):
            self._restart_log()

    def _evict(self) -> None:
        self.commit([_give_up])

    def _restart_log(self) -> None:
        """Has the log begin anew in the room that it has; to give that back would lose it to
        others.
        """
        connection = self._adopt()[1]
        connection.set_busy_handler(patience(_SHORTLY_S))  # it keeps all writers out
        try:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
            self._log_pages = 0
        finally:
            connection.set_busy_handler(patience(self._store.patience_s))

    def _cap(self, connection: apsw.Connection) -> int:
        """How many bytes the database may take: no more than now while the disk is nearly full."""
        if self._store.files.available() >= 2 * self._store.log_pages * PAGE_BYTES:
            self._capped = self._max_bytes
        elif self._capped == self._max_bytes:
            pages = cursor_of(connection).execute("PRAGMA page_count").get
            self._capped = min(self._max_bytes, pages * PAGE_BYTES)
        return self._capped

    def close(self) -> None:
        if self._log is not None:
            os.close(self._log)


def _check(life: Life) -> None:
    if life.file.retired:
        raise EndedError("the embedded store is being reopened")


def _roll_back(connection: apsw.Connection) -> None:
    with suppress(*FAILURES):
        if connection.in_transaction:
            cursor_of(connection).execute("ROLLBACK")


def _give_up(transaction: Transaction) -> None:
    transaction.give_up(_SHARE)
