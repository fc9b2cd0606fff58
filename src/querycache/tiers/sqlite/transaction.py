"""What is done inside one write transaction of the embedded store."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from itertools import islice
from typing import Final

from querycache.ports.tiers import Write
from querycache.tiers.sqlite.connection import Cursor
from querycache.tiers.sqlite.store import GUARD_BITS
from querycache.values import Stamp

SECRET: Final = "secret:"  # noqa: S105 -- what names begin with
"""What the names of secrets begin with in the table `meta`."""

LOG_ROWS: Final = 10_000
"""How many invalidations are kept for readers and guards that lag."""

_TRIM_EVERY: Final = 500
_STEP: Final = 64  # entries evicted between two looks at the size
_LOW_WATER: Final = 0.9
_SLACK_PAGES: Final = 512  # free pages that are kept for the next writes


class Transaction:
    """One open write transaction.

    Attributes:
        logged: Whether it leaves rows in the log, so that others must hear of it.
        durable: Whether it must survive a power failure before it is acknowledged.
    """

    def __init__(
        self, cursor: Cursor, *, identity: int, source: int, now: float, max_bytes: int
    ) -> None:
        self._cursor = cursor
        self._identity = identity
        self._source = source
        self._now = now
        self._max_bytes = max_bytes
        self.logged = False
        self.durable = False
        self._last: int = cursor.execute("SELECT max(seq) FROM sqlite_sequence").get or 0

    def write(self, writes: Sequence[Write]) -> list[bool]:
        stored = [self._store(write) for write in writes]
        self.make_room(self._max_bytes, LOG_ROWS)
        return stored

    def remove(self, keys: Sequence[str]) -> int:
        self.durable = True
        removed = 0
        for key in keys:
            self._cursor.execute("DELETE FROM entry WHERE key = ?", (key,))
            removed += self._changes()
            self._log(key, is_tag=False)
        return removed

    def bump(self, tags: Sequence[str]) -> dict[str, Stamp]:
        self.durable = True
        moved: dict[str, Stamp] = {}
        for tag in tags:
            number = self._log(tag, is_tag=True)
            self._cursor.execute("INSERT OR REPLACE INTO counter VALUES(?, ?)", (tag, number))
            moved[tag] = Stamp(self._identity, number)
        return moved

    def lease(self, key: str, seconds: float) -> str | None:
        if self._holder(key) is not None:
            return None
        token = secrets.token_hex(8)
        row = (key, token, self._now, seconds)
        self._cursor.execute("INSERT OR REPLACE INTO lease VALUES(?, ?, ?, ?)", row)
        return token

    def renew(self, key: str, token: str, seconds: float) -> bool:
        if self._holder(key) != token:
            return False
        self._cursor.execute(
            "UPDATE lease SET since = ?, seconds = ? WHERE key = ?", (self._now, seconds, key)
        )
        return True

    def release(self, key: str, token: str) -> None:
        self._cursor.execute("DELETE FROM lease WHERE key = ? AND token = ?", (key, token))

    def keep_secret(self, name: str, proposed: bytes) -> bytes:
        """What is kept under a name; `proposed` where nothing is."""
        self.durable = True
        row = (SECRET + name, proposed)
        self._cursor.execute("INSERT OR IGNORE INTO meta VALUES(?, ?)", row)
        found = self._cursor.execute("SELECT value FROM meta WHERE name = ?", row[:1]).get
        return found if isinstance(found, bytes) else b""

    def drop_secret(self, name: str) -> bool:
        self.durable = True
        self._cursor.execute("DELETE FROM meta WHERE name = ?", (SECRET + name,))
        return self._changes() > 0

    def touch(self, keys: Sequence[str], minute: int) -> None:
        """Notes that entries were used."""
        for key in keys:
            self._cursor.execute(
                "UPDATE entry SET used = ? WHERE key = ? AND used < ?", (minute, key, minute)
            )

    def sweep(self, limit: int) -> int:
        """Deletes what has expired, then what the size cap asks for, `limit` in all."""
        swept = self._expire(limit)
        self._cursor.execute(
            "DELETE FROM lease WHERE since + seconds <= ? OR since > ?", (self._now, self._now)
        )
        if swept < limit:
            swept += self.make_room(int(self._max_bytes * _LOW_WATER), limit - swept)
        pages = self._pragma("freelist_count") - _SLACK_PAGES
        if pages > 0:
            # Each row of the statement frees one page.
            statement = self._cursor.execute(f"PRAGMA incremental_vacuum({min(pages, limit)})")
            for _ in islice(statement, limit):
                pass
        return swept

    def purge(self, start: str, end: str, limit: int) -> int:
        """Deletes entries whose names lie in [start, end)."""
        self._cursor.execute(
            "DELETE FROM entry WHERE rowid IN"
            " (SELECT rowid FROM entry WHERE key >= ? AND key < ? LIMIT ?)",
            (start, end, limit),
        )
        return self._changes()

    def make_room(self, target: int, limit: int) -> int:
        """Deletes entries, expired and least recently used ones first, until they take `target`
        bytes.
        """
        gone = 0
        while gone < limit and (excess := self._bytes() - target) > 0:
            found = self._expire(_STEP) or self._evict(excess, min(_STEP, limit - gone))
            if not found:
                break
            gone += found
        return gone

    def give_up(self, share: float) -> int:
        """Deletes the least recently used `share` of the bytes."""
        return self.make_room(int(self._bytes() * (1 - share)), LOG_ROWS)

    def _store(self, write: Write) -> bool:
        if write.guard is not None and self._moved(write, write.guard):
            return False
        minute = int(self._now // 60)
        size = len(write.data)
        self._cursor.execute(
            "INSERT INTO entry VALUES(?, ?, ?, ?, ?) ON CONFLICT(key) DO UPDATE SET expires ="
            " excluded.expires, used = excluded.used, size = excluded.size, data = excluded.data",
            (write.key, write.expires_at, minute, size, write.data),
        )
        if write.tell:
            self._log(write.key, is_tag=False)
        return True

    def _moved(self, write: Write, guard: int) -> bool:
        """Whether what the write depends on moved since its guard was taken."""
        last = guard & (1 << GUARD_BITS) - 1
        if guard >> GUARD_BITS != self._identity or last > self._last:
            return True
        if last == self._last:
            return False
        tail = self._cursor.execute("SELECT min(id) FROM log").get
        if tail is None or tail > last + 1:
            return True
        found = self._cursor.execute(
            "SELECT 1 FROM log WHERE id > ? AND name = ? AND NOT is_tag LIMIT 1", (last, write.key)
        ).fetchall()
        if found:
            return True
        sql = "SELECT 1 FROM counter WHERE tag = ? AND number > ?"
        return any(self._cursor.execute(sql, (tag, last)).fetchall() for tag in write.tags)

    def _log(self, name: str, *, is_tag: bool) -> int:
        self._cursor.execute("INSERT INTO log VALUES(NULL, ?, ?, ?)", (self._source, is_tag, name))
        self.logged = True
        self._last = self._cursor.connection.last_insert_rowid()
        if self._last % _TRIM_EVERY == 0:
            self._cursor.execute("DELETE FROM log WHERE id <= ?", (self._last - LOG_ROWS,))
        return self._last

    def _holder(self, key: str) -> str | None:
        """The token of a lease that runs. A clock that went back ends it: too early costs a second
        load, too late a stall.
        """
        return self._cursor.execute(
            "SELECT token FROM lease WHERE key = ?1 AND since <= ?2 AND since + seconds > ?2",
            (key, self._now),
        ).get

    def _expire(self, limit: int) -> int:
        self._cursor.execute(
            "DELETE FROM entry WHERE rowid IN"
            " (SELECT rowid FROM entry WHERE expires <= ? LIMIT ?)",
            (self._now, limit),
        )
        return self._changes()

    def _evict(self, excess: int, limit: int) -> int:
        """Deletes up to `limit` entries, in the order of their last use, for `excess` bytes."""
        found = self._cursor.execute(
            "SELECT rowid, size FROM entry ORDER BY used, rowid LIMIT ?", (limit,)
        ).fetchall()
        gone = 0
        for row, size in found:
            self._cursor.execute("DELETE FROM entry WHERE rowid = ?", (row,))
            gone += 1
            excess -= size
            if excess <= 0:
                break
        return gone

    def _changes(self) -> int:
        return self._cursor.connection.changes()

    def _bytes(self) -> int:
        pages = self._pragma("page_count") - self._pragma("freelist_count")
        return pages * self._pragma("page_size")

    def _pragma(self, name: str) -> int:
        value = self._cursor.execute(f"PRAGMA {name}").get
        return value if isinstance(value, int) else 0
