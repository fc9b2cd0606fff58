"""The embedded L2: entries, counters and leases in one SQLite file.

Reads run on the calling thread (microseconds, no await that suspends); all that writes is queued
to the writer thread.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncIterator, Sequence
from functools import cache
from typing import Final

from querycache.clock import Clock
from querycache.ports.tiers import L2Info, Listing, Read, Write
from querycache.tiers.backplane import RETIRED, EpochFile, SharedEpoch
from querycache.tiers.sqlite.connection import FAILURES, DamagedError
from querycache.tiers.sqlite.dumping import SqliteSource
from querycache.tiers.sqlite.store import Store
from querycache.tiers.sqlite.transaction import SECRET, Transaction
from querycache.tiers.sqlite.writer import Writer
from querycache.values import Stamp

_CHUNK: Final = 128  # keys in one statement
_PAGE: Final = 500  # rows between two awaits of a scan
_TOUCHED: Final = 20_000  # names whose use is noted within a minute
_MINUTE_S: Final = 60.0
_END: Final = "\U0010ffff"  # sorts after whatever a name can go on with

_BYTES: Final = frozenset({bytes})
_NOT_OURS: Final = DamagedError("the embedded store holds what was never written")

_LAST: Final = "SELECT max(seq) FROM sqlite_sequence"
_READ_ONE: Final = (
    "SELECT (SELECT seq FROM sqlite_sequence),"
    " (SELECT data FROM entry WHERE key = ?1 AND expires > ?2)"
)


class SqliteTier:
    """L2 over the file `l2.sqlite` in `folder`, which every process of this user may open.

    Attributes:
        backplane: Tells this process what the others changed.
    """

    name = "sqlite"

    def __init__(
        self,
        folder: str,
        *,
        clock: Clock,
        max_bytes: int,
        busy_timeout_s: float = 2.0,
        deadline_s: float | None = None,
    ) -> None:
        """Opens the store, or makes it. `max_bytes` bounds the database (beside it lie a log of up
        to an eighth of that, 4 MB at most, and 1 MB of reserve); `busy_timeout_s` is how long a
        writer waits for its turn, `deadline_s` how long a caller waits for the writer. Raises
        `TierError`.
        """
        self._clock = clock
        self._max_bytes = max_bytes
        self._store = Store(
            folder, clock=clock, max_bytes=max_bytes, busy_timeout_s=busy_timeout_s
        )
        self._writer = Writer(self._store, clock=clock, max_bytes=max_bytes, deadline_s=deadline_s)
        self._touched: set[str] = set()
        self._touched_since = clock.wall()
        self.backplane = SharedEpoch(_Journal(self._store, self._writer), clock)
        _OPEN.add(self)

    @property
    def rebuilt(self) -> int:
        """How often this process found the database damaged or gone, and an empty one took its
        place.
        """
        return self._store.rebuilt

    async def read(self, keys: Sequence[str], *, fenced: bool = True) -> list[Read]:
        del fenced
        if self._store.life.words[RETIRED]:
            await self._reopen()
        if len(keys) == 1:
            return [self._read_one(keys[0])]
        found: list[Read] = []
        for start in range(0, len(keys), _CHUNK):
            if start:
                await asyncio.sleep(0)  # let others run
            found += self._read_many(keys[start : start + _CHUNK])
        return found

    def witnessed(self, key: str) -> int | None:
        del key
        life = self._store.life
        try:
            last = self._store.reader(life).execute(_LAST).get
        except FAILURES:
            return None
        return life.guard | (last or 0)

    async def write(self, writes: Sequence[Write]) -> list[bool]:
        if not writes:
            return []
        weight = sum(len(write.data) for write in writes)
        return await self._writer.submit(lambda open_: open_.write(writes), weight=weight)

    async def remove(self, keys: Sequence[str]) -> int:
        return await self._writer.submit(lambda open_: open_.remove(keys), invalidates=True)

    async def stamps(self, tags: Sequence[str]) -> dict[str, Stamp]:
        if self._store.life.file.retired:
            await self._reopen()
        life = self._store.life
        stamps = dict.fromkeys(tags, Stamp(life.identity, 0))
        try:
            cursor = self._store.reader(life)
            for start in range(0, len(tags), _CHUNK):
                chunk = tuple(tags[start : start + _CHUNK])
                sql = _in("SELECT tag, number FROM counter WHERE tag IN (%s)", len(chunk))
                for tag, number in cursor.execute(sql, chunk):
                    stamps[tag] = Stamp(life.identity, int(number))
        except FAILURES as error:
            raise self._store.note(error, life) from error
        return stamps

    async def bump(self, tags: Sequence[str]) -> dict[str, Stamp]:
        return await self._writer.submit(lambda open_: open_.bump(tags), invalidates=True)

    async def lease(self, key: str, seconds: float) -> str | None:
        now = self._clock.wall()
        sql = "SELECT 1 FROM lease WHERE key = ?1 AND since <= ?2 AND since + seconds > ?2"
        try:
            held = self._store.reader().execute(sql, (key, now)).fetchall()
        except FAILURES as error:
            raise self._store.note(error) from error
        if held:
            return None
        return await self._writer.submit(lambda open_: open_.lease(key, seconds))

    async def renew(self, key: str, token: str, seconds: float) -> bool:
        return await self._writer.submit(lambda open_: open_.renew(key, token, seconds))

    async def release(self, key: str, token: str) -> None:
        await self._writer.submit(lambda open_: open_.release(key, token))

    async def secret(self, name: str, proposed: bytes | None = None) -> bytes | None:
        if self._store.life.file.retired:
            await self._reopen()
        sql = "SELECT value FROM meta WHERE name = ?"
        try:
            found = self._store.reader().execute(sql, (SECRET + name,)).get
        except FAILURES as error:
            raise self._store.note(error) from error
        if isinstance(found, bytes):
            return found
        if proposed is None:
            return None
        return await self._writer.submit(lambda open_: open_.keep_secret(name, proposed))

    async def drop_secret(self, name: str) -> bool:
        return await self._writer.submit(lambda open_: open_.drop_secret(name))

    async def sweep(self, limit: int = 1000) -> int:
        self._note_uses(self._clock.wall())
        return await self._writer.submit(lambda open_: open_.sweep(limit), patient=True)

    async def purge(self, prefix: str) -> int:
        purged = 0
        while gone := await self._writer.submit(
            lambda open_: open_.purge(prefix, prefix + _END, _PAGE), patient=True
        ):
            purged += gone
        return purged

    async def scan(self, prefix: str = "") -> AsyncIterator[Listing]:
        sql = (
            "SELECT key, size, expires FROM entry"
            " WHERE key >= ? AND key < ? AND expires > ? ORDER BY key LIMIT ?"
        )
        start = prefix
        while True:
            values = (start, prefix + _END, self._clock.wall(), _PAGE)
            try:
                rows = self._store.reader().execute(sql, values).fetchall()
            except FAILURES as error:
                raise self._store.note(error) from error
            for row in rows:
                yield Listing(row[0], row[1], row[2])
            if len(rows) < _PAGE:
                return
            start = f"{rows[-1][0]}\0"  # the next possible name
            await asyncio.sleep(0)  # let others run

    async def post(self, name: str, data: bytes, seconds: float) -> None:
        """Nothing: one machine shares the file, and its processes have their registry."""
        del name, data, seconds

    async def posts(self) -> dict[str, bytes]:
        return {}

    async def info(self) -> L2Info:
        where = self._store.files.database
        try:
            if self._store.life.file.retired:
                await self._reopen()
            cursor = self._store.reader()
            began = self._clock.monotonic()
            cursor.execute("SELECT value FROM meta").fetchall()
            ping_ms = (self._clock.monotonic() - began) * 1000
            entries = cursor.execute("SELECT count(*) FROM entry").get
            pages, free, size = (
                cursor.execute(f"PRAGMA {name}").get
                for name in ("page_count", "freelist_count", "page_size")
            )
        except FAILURES as error:
            reason = str(self._store.note(error))
            return L2Info(backend=self.name, connected=False, where=where, error=reason)
        return L2Info(
            backend=self.name,
            connected=True,
            where=where,
            ping_ms=ping_ms,
            entries=entries,
            bytes=(pages - free) * size,
            max_bytes=self._max_bytes,
        )

    def source(self) -> SqliteSource:
        """Reads it for a backup."""
        return SqliteSource(self._store, self._clock)

    async def close(self) -> None:
        """Commits what is queued and closes the file; no thread may be reading."""
        _OPEN.discard(self)
        await self._writer.close()
        self._store.close()

    def after_fork(self) -> None:
        """Makes the tier in a child independent of its parent's threads, locks and connections."""
        self._store.after_fork()
        self._writer.after_fork()
        self.backplane.after_fork()

    def _read_one(self, key: str) -> Read:
        store = self._store
        life = store.life
        now = self._clock.wall()
        try:
            ((last, data),) = store.reader(life).execute(_READ_ONE, (key, now)).fetchall()
        except FAILURES as error:
            raise store.note(error, life) from error
        if data is None:
            return Read(None, life.guard | (last or 0))
        if type(data) is not bytes:
            raise store.note(_NOT_OURS, life)
        self._touched.add(key)
        if not 0 <= now - self._touched_since < _MINUTE_S or len(self._touched) > _TOUCHED:
            self._note_uses(now)
        return Read(data, life.guard | (last or 0))

    def _read_many(self, keys: Sequence[str]) -> list[Read]:
        store = self._store
        life = store.life
        now = self._clock.wall()
        sql = _in("SELECT key, data FROM entry WHERE key IN (%s) AND expires > ?", len(keys))
        try:
            cursor = store.reader(life)
            # The guard first: one that is too old only refuses too much.
            last = cursor.execute(_LAST).get
            found = dict(cursor.execute(sql, (*keys, now)).fetchall())
        except FAILURES as error:
            raise store.note(error, life) from error
        if not _BYTES.issuperset(map(type, found.values())):
            raise store.note(_NOT_OURS, life)
        guard = life.guard | (last or 0)
        self._touched.update(found)
        if not 0 <= now - self._touched_since < _MINUTE_S or len(self._touched) > _TOUCHED:
            self._note_uses(now)
        return [Read(found.get(key), guard) for key in keys]

    def _note_uses(self, now: float) -> None:
        """Has the uses of the last minute written, one update for each name."""
        touched, self._touched = tuple(self._touched), set()
        self._touched_since = now
        if touched:
            self._writer.post(lambda open_: open_.touch(touched, int(now // _MINUTE_S)))

    async def _reopen(self) -> None:
        """Waits until the next life of the store has begun."""
        await self._writer.submit(_nothing)


class _Journal:
    """The log of a store, with its writer at hand."""

    def __init__(self, store: Store, writer: Writer) -> None:
        self._store = store
        self.mend = writer.poke
        self.last = store.last
        self.rows = store.rows

    @property
    def source(self) -> int:
        return self._store.source

    @property
    def file(self) -> EpochFile:
        return self._store.life.file


def open_sqlite(
    folder: str, *, clock: Clock, max_bytes: int, deadline_s: float | None = None
) -> tuple[SqliteTier, SharedEpoch]:
    """The embedded L2 of `folder` and its backplane. Raises `TierError`."""
    tier = SqliteTier(folder, clock=clock, max_bytes=max_bytes, deadline_s=deadline_s)
    return tier, tier.backplane


@cache
def _in(sql: str, count: int) -> str:
    return sql % ",".join("?" * count)


def _nothing(open_: Transaction) -> None:
    del open_


def _after_fork() -> None:
    for tier in list(_OPEN):
        tier.after_fork()


_OPEN: weakref.WeakSet[SqliteTier] = weakref.WeakSet()
os.register_at_fork(after_in_child=_after_fork)
