"""SQLite as the embedded store speaks to it: connections, and what its errors mean."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol, cast

import apsw

from querycache.errors import TierError

FAILURES = (apsw.Error, OSError, OverflowError, TypeError, ValueError, MemoryError)
"""What a statement on a damaged or refused file can raise."""

_OLDEST: Final = (3, 51, 3)  # before it, two connections could corrupt a WAL file
_STEPS_S: Final = (0.0002, 0.0007, 0.0003, 0.0009, 0.0004)
_MEAN_STEP_S: Final = 0.0005


class Cursor(Protocol):
    """What is used of `apsw.Cursor`, whose own annotations are partly unknown to checkers.

    Read each result to its end (`fetchall`): a statement that was left in the middle keeps its
    snapshot, and with it the whole log behind it.
    """

    def execute(self, statements: str, bindings: Sequence[object] | None = None) -> Cursor: ...

    def fetchall(self) -> list[tuple[Any, ...]]: ...

    def __iter__(self) -> Iterator[tuple[Any, ...]]: ...

    @property
    def get(self) -> Any:  # noqa: ANN401 -- whatever SQLite holds
        """The only value of the only row; None where there is none."""
        ...

    @property
    def connection(self) -> apsw.Connection: ...


class DamagedError(TierError):
    """The database's content can't be trusted."""


class FullError(TierError):
    """The disk is full."""


class FailingError(TierError):
    """The disk fails."""


class BusyError(TierError):
    """Another process keeps the write lock."""


class NotOpenError(TierError):
    """The database could not be opened again."""


class EndedError(TierError):
    """The life of the store that this was asked of has ended; another one begins."""


_DAMAGED = (
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.FormatError,
    apsw.SQLError,
    UnicodeDecodeError,
)


def failure(error: BaseException) -> TierError:
    """The error of this tier that says what a caught one means."""
    text = f"embedded store: {type(error).__name__}: {error}"
    if isinstance(error, TierError):
        return error
    if isinstance(error, _DAMAGED):
        return DamagedError(text, remedy="Nothing: it is set aside, and the cache starts empty.")
    number = getattr(error, "errno", 0)
    if isinstance(error, apsw.FullError) or number in {errno.ENOSPC, errno.EDQUOT}:
        return FullError(text, remedy="Free some disk space, or lower the size limit.")
    if isinstance(error, apsw.IOError) or number == errno.EIO:
        return FailingError(text, remedy="Look at the disk that holds QUERYCACHE_HOME.")
    if isinstance(error, (apsw.BusyError, apsw.LockedError)):
        return BusyError(text, remedy="Look for a stopped process that uses the cache.")
    return TierError(text)


def check_version() -> None:
    """Raises `TierError` where SQLite is too old to share a database."""
    if tuple(map(int, apsw.sqlitelibversion().split("."))) < _OLDEST:
        raise TierError(
            f"SQLite {apsw.sqlitelibversion()} may corrupt a shared database",
            remedy="Install the apsw wheel, which brings its own SQLite.",
        )


def cursor_of(connection: apsw.Connection) -> Cursor:
    return cast("Cursor", connection.cursor())


def connect(path: str, *, cache_kib: int) -> apsw.Connection:
    """Opens an existing database."""
    # No mutex of SQLite's: a connection is used by one thread at a time.
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOMUTEX
    connection = apsw.Connection(path, flags=flags)
    cursor = cursor_of(connection)
    for setting in (
        "mmap_size = 0",
        "wal_autocheckpoint = 0",  # the writer thread does it
        f"cache_size = -{cache_kib}",
        "trusted_schema = 0",
        "cell_size_check = 1",
    ):
        cursor.execute(f"PRAGMA {setting}").fetchall()
    return connection


def patience(seconds: float) -> Callable[[int], bool]:
    """A busy handler with short, uneven steps: SQLite's own sleeps up to 100 ms at a time."""

    def wait(earlier: int) -> bool:
        time.sleep(_STEPS_S[earlier % len(_STEPS_S)])
        return earlier * _MEAN_STEP_S < seconds

    return wait
