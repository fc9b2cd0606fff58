"""Eviction by queues: S3-FIFO, and one that adapts. Pure: no clock, no locks, no I/O.

Both work on hits alone: an entry is looked at only when it stands at the head of its queue, and
what it was hit meanwhile decides where it goes. So a hit costs its reader one increment.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

from querycache.ports.tiers import Entry

_SLACK = 256  # slots that may lie dead in a queue; the slots that ghosts begin with
_SMALL = 0.1  # the small queue's share of entries and of bytes, at first
_LEAST = 0.02  # the least share of either queue
_STEP = 0.5  # entries by which one that came back moves the border
_ROUNDS = 3  # the most rounds in the main queue that hits can buy
_CHALLENGE = 64  # one in so many that the small queue gives up may stay instead of main's next
_LOW = (1 << 30) - 1  # a ghost's count of departures
_HIGH = _LOW << 30  # a ghost's part of the hash

NEVER = 1 << 30
"""The age of a ghost that is not known."""


class Queue:
    """A first-in first-out queue of entries that can also lose one from its middle.

    Places count up for ever: the entry at place p is `slots[p - base]`, and `entry.queue` is p.
    What is discarded leaves a hole, and holes are closed before they outnumber the entries.
    """

    __slots__ = ("_base", "_head", "_slots", "bytes", "count")

    def __init__(self) -> None:
        self._slots: list[Entry | None] = []
        self._base = 0
        self._head = 0  # index of the first slot in use
        self.count = 0
        self.bytes = 0

    def push(self, entry: Entry) -> None:
        entry.queue = self._base + len(self._slots)
        self._slots.append(entry)
        self.count += 1
        self.bytes += entry.weight

    def pop(self) -> Entry:
        """Takes the first; there must be one."""
        slots, head = self._slots, self._head
        while (entry := slots[head]) is None:
            head += 1
        slots[head] = None
        head += 1
        if head >= _SLACK and 2 * head >= len(slots):
            del slots[:head]
            self._base += head
            head = 0
        self._head = head
        self.count -= 1
        self.bytes -= entry.weight
        return entry

    def holds(self, entry: Entry) -> bool:
        index = entry.queue - self._base
        return 0 <= index < len(self._slots) and self._slots[index] is entry

    def discard(self, entry: Entry) -> None:
        self._slots[entry.queue - self._base] = None
        self.count -= 1
        self.bytes -= entry.weight
        if len(self._slots) > 2 * self.count + _SLACK:
            self._close_holes()

    def _close_holes(self) -> None:
        kept = [entry for entry in self._slots if entry is not None]
        self._base += len(self._slots)
        self._slots, self._head = [], 0
        self.count = self.bytes = 0
        for entry in kept:
            self.push(entry)

    def __len__(self) -> int:
        return self.count


class Ghosts:
    """Remembers which names went, and how long ago: a table of 8-byte slots, one for each hash.

    A slot holds 30 bits of the name's hash and the count of departures at the time. Of two names
    that share a slot the later one stays, so memory is exact for the recent past, fades with age,
    and costs the same however fast names come and go.
    """

    __slots__ = ("_gone", "_per_entry", "_table")

    def __init__(self, slots_per_entry: int) -> None:
        self._per_entry = slots_per_entry
        self._table = array("Q", bytes(8 * _SLACK))
        self._gone = 0

    def add(self, key: str, held: int) -> None:
        """`key` went from among `held` entries."""
        if self._per_entry * held > len(self._table):  # seldom: starts anew, with room to grow
            self._table = array("Q", bytes(8 * (5 * self._per_entry * held // 4)))
        mark = hash(key)
        self._gone = gone = (self._gone + 1) & _LOW
        self._table[mark % len(self._table)] = (mark & _HIGH) | gone

    def take(self, key: str) -> int:
        """How many names ago `key` went, or `NEVER`; forgets it."""
        mark = hash(key)
        table = self._table
        place = mark % len(table)
        found = table[place]
        if found ^ (mark & _HIGH) > _LOW or not found:
            return NEVER
        table[place] = 0
        return (self._gone - found) & _LOW

    def clear(self) -> None:
        self._table = array("Q", bytes(8 * _SLACK))


class S3Fifo:
    """Three static queues (Yang et al., "FIFO queues are all you need for cache eviction", SOSP
    2023).

    New entries go through a small queue. Those that were hit there, or come back soon after they
    left it, move to the main queue, where a hit buys another round. So a scan passes through the
    small queue and leaves the rest alone.
    """

    touch: Callable[[Entry], None] | None = None

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._small, self._main = Queue(), Queue()
        self._left_small = Ghosts(3)
        self._allot(_SMALL)

    def admit(self, entry: Entry) -> None:
        known = entry.hits > 0 or self._left_small.take(entry.key) < len(self)
        (self._main if known else self._small).push(entry)

    def discard(self, entry: Entry) -> None:
        (self._small if self._small.holds(entry) else self._main).discard(entry)

    def victim(self) -> Entry:
        small, main = self._small, self._main
        while True:
            if main.count and (
                small.count <= self._small_entries and small.bytes <= self._small_bytes
            ):
                entry = main.pop()
                if not entry.hits:
                    return entry
                entry.hits = min(entry.hits, _ROUNDS) - 1
            else:
                entry = small.pop()
                if not entry.hits:
                    self._left_small.add(entry.key, small.count + main.count)
                    return entry
                entry.hits = 0
            main.push(entry)

    def _allot(self, share: float) -> None:
        """Sets the small queue's share of entries and of bytes."""
        self._share = share
        self._small_entries = share * self._max_entries
        self._small_bytes = share * self._max_bytes

    def resize(self, max_entries: int, max_bytes: int) -> None:
        """The queues' shares are of other bounds from now on."""
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._allot(self._share)

    def clear(self) -> None:
        self._small, self._main = Queue(), Queue()
        self._left_small.clear()
        self._allot(_SMALL)

    def __len__(self) -> int:
        return self._small.count + self._main.count


class Adaptive(S3Fifo):
    """S3-FIFO that finds the size of its small queue, as ARC does for its two lists (Megiddo and
    Modha, FAST 2003), and so follows recency as well as frequency.

    - What comes back soon after it left the small queue says: that queue is too short. What comes
      back soon after it left the main queue says: too long.
    - While there is room, entries go straight to the main queue: a loop that is larger than the
      cache then finds a part of itself there on each round, instead of nothing.
    - One in 64 that the small queue gives up takes the place of main's next, if that was not hit:
      else a main queue full of what nobody wants any more would never empty under a loop.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        super().__init__(max_entries, max_bytes)
        self._left_main = Ghosts(1)
        self._filling = True
        self._given_up = 0

    def admit(self, entry: Entry) -> None:
        size = self._small.count + self._main.count
        ago = self._left_small.take(entry.key)
        if 2 * ago < size:
            self._allot(min(self._share + _STEP / size, 1.0 - _LEAST))
        elif 2 * self._left_main.take(entry.key) < size:
            self._allot(max(self._share - _STEP / size, _LEAST))
        known = entry.hits > 0 or ago < 2 * size or (self._filling and self._main_has_room())
        (self._main if known else self._small).push(entry)

    def _main_has_room(self) -> bool:
        main, share = self._main, 1.0 - _SMALL
        return main.count < share * self._max_entries and main.bytes < share * self._max_bytes

    def victim(self) -> Entry:
        self._filling = False
        small, main = self._small, self._main
        while True:
            if main.count and (
                small.count <= self._small_entries and small.bytes <= self._small_bytes
            ):
                if (entry := self._unhit_of_main()) is not None:
                    return entry
                continue
            entry = small.pop()
            if entry.hits:
                entry.hits = 0
                main.push(entry)
                continue
            self._given_up += 1
            if self._given_up % _CHALLENGE == 0 and main.count:
                rival = self._unhit_of_main()
                if rival is not None:
                    main.push(entry)
                    return rival
            self._left_small.add(entry.key, len(self))
            return entry

    def _unhit_of_main(self) -> Entry | None:
        """Takes main's next, or gives it another round."""
        entry = self._main.pop()
        if entry.hits:
            entry.hits = min(entry.hits, _ROUNDS) - 1
            self._main.push(entry)
            return None
        self._left_main.add(entry.key, len(self))
        return entry

    def clear(self) -> None:
        super().clear()
        self._left_main.clear()
        self._filling = True
