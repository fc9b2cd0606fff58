"""Writes that L2 does not have yet: the newest of each key, bounded in entries and bytes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from threading import Lock

import msgspec

from querycache.cache.generations import Stamps
from querycache.ports.tiers import Write

_OVERHEAD = 512
"""Bytes that a waiting write counts for besides its name and its envelope."""

_numbers = itertools.count(1)


class Limits(msgspec.Struct, frozen=True):
    """How much may wait and how long. This is what a crash may lose, without a journal.

    Attributes:
        entries: The most entries that wait; a write past it goes through.
        bytes: The same in bytes of sealed entries.
        interval_s: How often what waits is written to L2.
        batch: How many entries are written at once; so many are not waited for.
        drain_s: How long the end of the process waits for L2 to take what waits.
    """

    entries: int = 10_000
    bytes: int = 64 * 1024 * 1024
    interval_s: float = 1.0
    batch: int = 100
    drain_s: float = 2.0


class Waiting(msgspec.Struct, eq=False):
    """A write that waits. `number` grows in the order in which writes came, over all queues of the
    process; `since` is when, in monotonic seconds. `write.guard` is what this process knew of the
    name then.
    """

    write: Write
    stamps: Stamps
    since: float
    number: int

    @property
    def key(self) -> str:
        return self.write.key

    @property
    def weight(self) -> int:
        return len(self.write.data) + len(self.write.key) + _OVERHEAD


class Queue:
    """The writes that wait, the one that has waited longest first. Safe under threads.

    Attributes:
        items: By key; the live map, for look-ups without a lock.
        bytes: What they weigh.
        newest: The number of the latest that came.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self.items: dict[str, Waiting] = {}
        self.bytes = 0
        self.newest = 0
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.items)

    def put(self, write: Write, stamps: Stamps, since: float) -> Waiting | None:
        """Adds a write, in the place of an older one of its key; None where there is no room, and
        then the older one stays.
        """
        with self._lock:
            item = Waiting(write, stamps, since, next(_numbers))
            older = self.items.get(write.key)
            weight = self.bytes - (older.weight if older else 0) + item.weight
            entries = len(self.items) + (older is None)
            if weight > self._max_bytes or entries > self._max_entries:
                return None
            self.items[write.key] = item
            self.bytes = weight
            self.newest = item.number
            return item

    def holds(self, item: Waiting) -> bool:
        """Whether it still waits, and is the newest of its key."""
        return self.items.get(item.key) is item

    def drop(self, key: str) -> Waiting | None:
        """Takes out what waits under a key."""
        with self._lock:
            return self._take(self.items.get(key))

    def drop_if(self, item: Waiting) -> bool:
        """Takes an item out, if it still waits."""
        with self._lock:
            return self.holds(item) and self._take(item) is not None

    def first(
        self, limit: int, max_bytes: int, wanted: Callable[[Waiting], bool]
    ) -> list[Waiting]:
        """Up to `limit` items that have waited longest, together of `max_bytes` (or one)."""
        found: list[Waiting] = []
        weight = 0
        with self._lock:
            for item in filter(wanted, self.items.values()):
                weight += item.weight
                if found and (len(found) == limit or weight > max_bytes):
                    break
                found.append(item)
        return found

    def to_the_end(self, items: list[Waiting]) -> None:
        """Lets others go first."""
        with self._lock:
            for item in filter(self.holds, items):
                self.items[item.key] = self.items.pop(item.key)

    def begin_anew(self) -> None:
        """For a forked child: what waits is its parent's."""
        self._lock = Lock()
        self.items.clear()
        self.bytes = 0

    def _take(self, item: Waiting | None) -> Waiting | None:
        if item is not None:
            del self.items[item.key]
            self.bytes -= item.weight
        return item
