"""Eviction policies: which entry goes next. Pure: no clock, no locks, no I/O.

A policy knows the entries of one tier and nothing else; the tier decides *when* one must go, the
policy *which*. What a policy learns of hits it reads from `entry.hits`, which readers bump without
a lock: an increment lost to a race costs a little order, never correctness. Only LRU must hear of
each hit (`touch`), since it orders by time of use.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from heapq import heapify, heappop, heappush, heapreplace
from random import Random
from typing import Protocol

from querycache.ports.tiers import Entry
from querycache.tiers.s3fifo import Adaptive, S3Fifo

_SLACK = 64  # heap items that may lie dead before it is worth a rebuild


class Policy(Protocol):
    """Orders entries for eviction. Calls come one at a time, except `touch`, which any thread may
    call at any moment.
    """

    touch: Callable[[Entry], None] | None

    def admit(self, entry: Entry) -> None:
        """Takes in an entry whose name it does not hold. One that replaces another comes with its
        hits.
        """
        ...

    def discard(self, entry: Entry) -> None:
        """Forgets an entry that it holds."""
        ...

    def victim(self) -> Entry:
        """Removes and returns the least valuable entry. There must be one."""
        ...

    def clear(self) -> None: ...

    def resize(self, max_entries: int, max_bytes: int) -> None:
        """The tier's bounds are others from now on; who goes for them is asked for afterwards."""
        ...

    def __len__(self) -> int: ...


class Fifo:
    """First written, first out."""

    touch: Callable[[Entry], None] | None = None

    def __init__(self) -> None:
        self._order: OrderedDict[str, Entry] = OrderedDict()

    def admit(self, entry: Entry) -> None:
        self._order[entry.key] = entry

    def discard(self, entry: Entry) -> None:
        del self._order[entry.key]

    def victim(self) -> Entry:
        return self._order.popitem(last=False)[1]

    def clear(self) -> None:
        self._order.clear()

    def resize(self, max_entries: int, max_bytes: int) -> None:
        """An order knows no bounds."""

    def __len__(self) -> int:
        return len(self._order)


class Lru(Fifo):
    """Least recently used or written."""

    def __init__(self) -> None:
        super().__init__()
        self.touch = self._touch

    def _touch(self, entry: Entry) -> None:
        with suppress(KeyError):  # it may have gone between the look-up and now
            self._order.move_to_end(entry.key)  # one C call: atomic among threads


class Lfu:
    """Least often used since it came in; among equals the oldest.

    A heap of (hits when last looked at, place). Hits only grow, so a top whose count is out of
    date is put back with its present one, and a top that is up to date is the minimum.
    """

    touch: Callable[[Entry], None] | None = None

    def __init__(self) -> None:
        self._heap: list[tuple[int, int]] = []
        self._places: dict[int, Entry] = {}
        self._next = 0

    def admit(self, entry: Entry) -> None:
        self._next += 1
        entry.queue = self._next
        self._places[entry.queue] = entry
        heappush(self._heap, (entry.hits, entry.queue))

    def discard(self, entry: Entry) -> None:
        del self._places[entry.queue]
        if len(self._heap) > 2 * len(self._places) + _SLACK:
            self._heap = [(entry.hits, place) for place, entry in self._places.items()]
            heapify(self._heap)

    def victim(self) -> Entry:
        while True:
            hits, place = self._heap[0]
            entry = self._places.get(place)
            if entry is not None and entry.hits > hits:
                heapreplace(self._heap, (entry.hits, place))
                continue
            heappop(self._heap)
            if entry is not None:
                del self._places[place]
                return entry

    def clear(self) -> None:
        self._heap.clear()
        self._places.clear()

    def resize(self, max_entries: int, max_bytes: int) -> None:
        """An order knows no bounds."""

    def __len__(self) -> int:
        return len(self._places)


class RandomChoice:
    """Any entry, with equal chances. `rng` makes it reproducible."""

    touch: Callable[[Entry], None] | None = None

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._entries: list[Entry] = []

    def admit(self, entry: Entry) -> None:
        entry.queue = len(self._entries)
        self._entries.append(entry)

    def discard(self, entry: Entry) -> None:
        last = self._entries.pop()  # fills the hole, so that the list stays dense
        if last is not entry:
            last.queue = entry.queue
            self._entries[last.queue] = last

    def victim(self) -> Entry:
        entry = self._entries[self._rng.randrange(len(self._entries))]
        self.discard(entry)
        return entry

    def clear(self) -> None:
        self._entries.clear()

    def resize(self, max_entries: int, max_bytes: int) -> None:
        """Chance knows no bounds."""

    def __len__(self) -> int:
        return len(self._entries)


POLICIES: Mapping[str, Callable[[int, int, Random], Policy]] = {
    "ADAPTIVE": lambda entries, size, _rng: Adaptive(entries, size),
    "S3FIFO": lambda entries, size, _rng: S3Fifo(entries, size),
    "LRU": lambda _entries, _size, _rng: Lru(),
    "LFU": lambda _entries, _size, _rng: Lfu(),
    "FIFO": lambda _entries, _size, _rng: Fifo(),
    "RANDOM": lambda _entries, _size, rng: RandomChoice(rng),
}
"""By the name that the settings use; made of the most entries, the most bytes and a source of
chance.
"""
