"""The embedded store read for a backup: in short statements, and without noting any use.

Not one long read transaction: it would keep the log from being emptied, and past its limit the
store refuses writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from querycache.clock import Clock
from querycache.ports.backup import Dumped
from querycache.ports.tiers import Read
from querycache.tiers.sqlite.connection import FAILURES
from querycache.tiers.sqlite.store import Life, Store

_ROWS: Final = 500
_BYTES: Final = 4 * 1024 * 1024
_END: Final = "\U0010ffff"  # sorts after whatever a name can go on with

_LAST: Final = "SELECT max(seq) FROM sqlite_sequence"
_SIZES: Final = (
    "SELECT key, size FROM entry WHERE key >= ? AND key < ? AND expires > ? ORDER BY key LIMIT ?"
)
_ENTRIES: Final = "SELECT key, data, expires FROM entry WHERE key >= ? AND key <= ? ORDER BY key"
_ONE: Final = "SELECT data FROM entry WHERE key = ? AND expires > ?"


@dataclass(frozen=True)
class SqliteSource:
    """The `Source` of an open store."""

    store: Store
    clock: Clock

    async def dump(self, prefix: str) -> AsyncIterator[Sequence[Dumped]]:
        start, end = prefix, prefix + _END
        while True:
            life = self.store.life
            try:
                rows = self._page(life, start, end)
            except FAILURES as error:
                raise self.store.note(error, life) from error
            if not rows:
                return
            yield rows
            start = f"{rows[-1].key}\0"  # the next possible name
            await asyncio.sleep(0)  # let others run

    async def peek(self, keys: Sequence[str]) -> list[Read]:
        life = self.store.life
        now = self.clock.wall()
        try:
            cursor = self.store.reader(life)
            guard = life.guard | (cursor.execute(_LAST).get or 0)  # first: too old refuses more
            return [Read(cursor.execute(_ONE, (key, now)).get, guard) for key in keys]
        except FAILURES as error:
            raise self.store.note(error, life) from error

    def _page(self, life: Life, start: str, end: str) -> list[Dumped]:
        cursor = self.store.reader(life)
        guard = life.guard | (cursor.execute(_LAST).get or 0)
        now = self.clock.wall()
        last, weight = "", 0
        for key, size in cursor.execute(_SIZES, (start, end, now, _ROWS)).fetchall():
            weight += size
            if last and weight > _BYTES:
                break
            last = key
        if not last:
            return []
        found = cursor.execute(_ENTRIES, (start, last)).fetchall()
        return [
            Dumped(key, data, expires, guard)
            for key, data, expires in found
            if expires > now and type(data) is bytes
        ]
