"""The backplane: how one process hears what another has made untrue.

Design note. The processes that share an embedded store also map one small file, whose first word
an L1 hit compares. The argument for its correctness:

- A transaction that leaves rows in the invalidation log runs, under SQLite's write lock:
  `begun += 1`, COMMIT, then `done = begun`; its caller is answered after that. Only the holder of
  the lock moves `begun`, so its values are unique and grow; `done == n` says that every
  transaction numbered up to n has ended.
- A reader whose `seen` equals `begun` may serve: a change that it does not know has not been
  committed, hence not been acknowledged, so the old value is still a legal answer.
- `drain` reads `begun`, then `done`, then the log. If the two were equal, every change numbered
  up to `begun` had ended before the log was read, so the rows hold it: `seen = begun`. Otherwise
  one may be between its words, and the rows may lack it: `seen = -1`, and the next read drains
  again. A change that begins after `begun` was read makes it differ from `seen`.
- COMMIT frees the lock before `done` is set, so two writers may end in the other order. `done`
  never goes back (`end` takes the larger), and where that race is lost it reads too low, which
  only costs a mending.
- Killed before `begun`: nothing happened. Killed between `begun` and COMMIT, or between COMMIT
  and `done`: SQLite rolls back, or the rows are there; the words differ, every read drains, and
  it finds such rows. After 50 ms of it the drainer asks its writer to mend: under the write lock
  nobody can be between `begun` and COMMIT, so `done = begun` is true.
- Log ids are without gaps, also over roll-backs (AUTOINCREMENT rolls back too). A gap between the
  last id that was applied and the rows is therefore a tail that was trimmed: `lost`.
- One map belongs to one database file and dies with it. Whoever finds the database damaged,
  replaced or unlinked sets `retired`, which nothing clears, and then `begun` to the largest word,
  so each process that maps it comes to look. A writer that had passed its check by then may
  overwrite `begun` once, with a number that no reader has seen; it looks at `retired` again
  before it commits. A new map starts at a random number, so one that a caller kept by mistake
  never matches: it is slow, not wrong.
- Loads and stores of an aligned 64-bit word are single, and the locks and system calls of COMMIT
  order them; no other ordering is relied on.
"""

from __future__ import annotations

import mmap
import os
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from querycache.clock import Clock
from querycache.errors import TierError
from querycache.ports.tiers import Changes
from querycache.values import Stamp

DOUBT_S = 0.05
"""How long a change may stay between its words before the drainer has it mended."""

ALWAYS: Sequence[float] = (float("inf"),)
"""For a channel that is read when it is asked for news."""

_MAGIC = int.from_bytes(b"qc-epoch", "little")
_SIZE = 4096
_BEGUN, _DONE, RETIRED, _IDENTITY, _KIND = range(5)
_LAST_WORD = (1 << 64) - 1


class LocalBackplane:
    """For a process that shares nothing: nobody to tell, and the epoch never moves. `deaf`: what
    it would share can't be reached.
    """

    epoch: Sequence[int] = (0,)
    hears_until: Sequence[float] = ALWAYS

    def __init__(self, *, deaf: bool = False) -> None:
        self._deaf = deaf

    def drain(self) -> Changes:
        return Changes(deaf=self._deaf)

    def close(self) -> None:
        """Nothing to close."""


class EpochFile:
    """The shared words of one database file.

    Attributes:
        words: begun, done, retired, the identity of the database, magic.
    """

    def __init__(self, descriptor: int) -> None:
        """Maps a file of full size. Raises `OSError` or `ValueError` where it can't be mapped."""
        self.words = memoryview(mmap.mmap(descriptor, _SIZE)).cast("Q")

    @classmethod
    def create(cls, path: str, identity: int) -> EpochFile:
        """Makes a new file and puts it at `path` in one step."""
        made = Path(f"{path}.{os.getpid()}.new")
        made.unlink(missing_ok=True)
        descriptor = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # Written out, not sparse: a hole on a full disk would be a SIGBUS in a reader.
            os.pwrite(descriptor, bytes(_SIZE), 0)
            file = cls(descriptor)
            start = secrets.randbits(62)
            file.words[_BEGUN] = file.words[_DONE] = start
            file.words[_IDENTITY] = identity
            file.words[_KIND] = _MAGIC
            made.rename(path)
        except BaseException:
            made.unlink()
            raise
        finally:
            os.close(descriptor)
        return file

    @classmethod
    def open(cls, path: str) -> EpochFile | None:
        """The file at `path`; None where there is none, or none of ours."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            if os.fstat(descriptor).st_size != _SIZE:
                return None
            file = cls(descriptor)
        finally:
            os.close(descriptor)
        return file if file.words[_KIND] == _MAGIC else None

    @property
    def identity(self) -> int:
        return self.words[_IDENTITY]

    @property
    def retired(self) -> bool:
        return self.words[RETIRED] != 0

    @property
    def settled(self) -> bool:
        """Whether no change is between its words."""
        return self.words[_BEGUN] == self.words[_DONE]

    def begin(self) -> int:
        """Announces a change; only under the database's write lock."""
        mark = (self.words[_BEGUN] + 1) & _LAST_WORD
        self.words[_BEGUN] = mark
        return mark

    def end(self, mark: int) -> None:
        """The change has been committed, or rolled back."""
        self.words[_DONE] = max(self.words[_DONE], mark)

    def mend(self) -> None:
        """Ends what a dead writer began; only under the database's write lock."""
        self.words[_DONE] = self.words[_BEGUN]

    def retire(self) -> None:
        """The database of this map is no more."""
        self.words[RETIRED] = 1
        self.words[_BEGUN] = _LAST_WORD


class LogRow(NamedTuple):
    """An invalidation: of a key, or of a tag."""

    id: int
    source: int
    is_tag: int
    name: str


class Journal(Protocol):
    """The invalidation log of an embedded store, as one process sees it."""

    @property
    def source(self) -> int:
        """Who we are in the log."""
        ...

    @property
    def file(self) -> EpochFile:
        """The map of the open database; another object after a rebuild."""
        ...

    def last(self, file: EpochFile) -> int:
        """The last id in the log. Raises `TierError`, also where `file` is no longer the map."""
        ...

    def rows(self, file: EpochFile, after: int) -> list[LogRow]:
        """All rows with a larger id, in order. Raises `TierError` as `last` does."""
        ...

    def mend(self) -> None:
        """Asks the writer to reopen what was retired, or to end what a dead writer began. Returns
        at once.
        """
        ...


class SharedEpoch:
    """The backplane of processes that share an embedded store.

    `epoch` is replaced when the store is rebuilt: read the attribute for each comparison. Rows of
    our own source are left out of what `drain` reports.
    """

    epoch: Sequence[int]
    hears_until: Sequence[float] = ALWAYS

    def __init__(self, journal: Journal, clock: Clock) -> None:
        """Raises `TierError` where the log can't be read."""
        self._journal = journal
        self._clock = clock
        self._lock = threading.Lock()
        self._file = journal.file
        self._applied = journal.last(self._file)
        self._seen = -1
        self._doubted = (-1, 0.0)  # the begun that was in doubt, and since when (monotonic s)
        self.epoch = self._file.words

    def drain(self) -> Changes:
        """What changed since the last drain. Whoever drains from several threads must apply one
        drain before the next.
        """
        with self._lock:
            try:
                return self._drain()
            except TierError:
                self._seen = -1
                return Changes(seen=-1, bypass=True)

    def close(self) -> None:
        """Nothing of its own to close: the map stays valid for who still holds it."""

    def after_fork(self) -> None:
        """Makes a child of the process independent of locks that its parent's threads held."""
        self._lock = threading.Lock()

    def _drain(self) -> Changes:
        file = self._journal.file
        begun, done = file.words[_BEGUN], file.words[_DONE]
        if file.retired:
            self._journal.mend()
            self._seen = -1
            return Changes(seen=-1, bypass=True)
        if file is not self._file:
            self._applied = self._journal.last(file)
            self._file = file
            self.epoch = file.words
            return Changes(seen=self._judge(begun, done), lost=True)
        if self._seen == begun:
            return Changes(seen=begun)
        rows = self._journal.rows(file, self._applied)
        lost = bool(rows) and rows[-1].id - self._applied != len(rows)
        if rows:
            self._applied = rows[-1].id
        seen = self._judge(begun, done)
        if lost:
            return Changes(seen=seen, lost=True)
        source, identity = self._journal.source, file.identity
        strange = [row for row in rows if row.source != source]
        return Changes(
            keys=tuple(row.name for row in strange if not row.is_tag),
            tags={row.name: Stamp(identity, row.id) for row in strange if row.is_tag},
            seen=seen,
        )

    def _judge(self, begun: int, done: int) -> int:
        """The epoch up to which a drain is complete."""
        if begun == done:
            self._seen = begun
            return begun
        self._seen = -1
        now = self._clock.monotonic()
        doubted, since = self._doubted
        if doubted != begun:
            self._doubted = (begun, now)
        elif now - since >= DOUBT_S:
            self._doubted = (begun, now)
            self._journal.mend()
        return -1
