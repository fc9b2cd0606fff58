"""L1: entries in this process, bounded in entries and bytes at every moment.

Readers take no lock: they look names up in `entries`, a dict whose single operations are atomic
among threads, and bump `entry.hits`. Whatever changes the set of entries holds the one lock, and
goes in an order that a reader in between can bear: room is made before an entry comes in, and a
name that is replaced is never missing in between. `on_evict` is called with the lock let go.

Where memory runs out between two steps of a change, what the policy knows and what `entries` holds
may differ. All of it goes then: that is whole again, and gives back what it took.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from threading import Lock

from querycache.ports.tiers import Entry, L1Info
from querycache.tiers.eviction import POLICIES

ENTRY_OVERHEAD = 560
"""Bytes that an entry costs beside its name and its encoded value: the objects that hold it and
its times, the headers of both, slots in tables, what the policy remembers of it and of those that
went. Measured against the process's growth (`bench/l1_memory.py`).
"""

_LOOKS_PER_DROP = 64  # entries that a sweep with a limit looks at for each that it may drop
_STEP = 256  # entries that go while the lock is held once


def weigh(key: str, encoded_length: int) -> int:
    """What an entry counts for, in bytes."""
    return ENTRY_OVERHEAD + len(key) + encoded_length


class MemoryTier:
    """Implements `ports.tiers.L1`.

    Args:
        max_entries: Most entries; with 0 it holds nothing.
        max_bytes: Most bytes, by the sum of `entry.weight`.
        policy: A name in `eviction.POLICIES`.
        on_evict: Told of each entry that went for room or was shed; must not raise.
        rng: Where RANDOM takes its choices from.
    """

    def __init__(
        self,
        *,
        max_entries: int,
        max_bytes: int,
        policy: str = "ADAPTIVE",
        on_evict: Callable[[Entry], None] | None = None,
        rng: Random | None = None,
    ) -> None:
        self._configured = (max_entries, max_bytes)
        self._max_entries = max_entries  # in force, as the next two
        self._max_bytes = max_bytes
        self._share, self._admits = 1.0, True
        self._name = policy
        chance = rng or Random()  # noqa: S311 -- no secret
        self._policy = POLICIES[policy](max_entries, max_bytes, chance)
        self._on_evict = on_evict
        self._lock = Lock()
        self._entries: dict[str, Entry] = {}
        self._bytes = 0
        self._evictions = 0
        self._rejected = 0
        self._unswept: list[str] = []
        self.entries: Mapping[str, Entry] = self._entries
        self.touch = self._policy.touch

    def put(self, entry: Entry) -> bool:
        """Adds or replaces; evicts what must go first. A replaced entry hands its hits on.

        False if the entry alone is larger than the bound, or nothing is admitted; an older one of
        its name goes even so, since it would be served in place of its successor.
        """
        evicted: list[Entry] = []
        with self._lock:
            try:
                kept = self._put(entry, evicted)
            except MemoryError:
                self._drop_all()
                kept = False
        self._tell(evicted)
        return kept

    def remove(self, key: str) -> Entry | None:
        """Drops an entry; returns it, or None if there is none."""
        with self._lock:
            entry = self._entries.pop(key, None)
            if entry is not None:
                self._policy.discard(entry)
                self._bytes -= entry.weight
            return entry

    def clear(self) -> int:
        """Drops all; returns how many."""
        with self._lock:
            return self._drop_all()

    def sweep(self, now: float, limit: int = 0) -> int:
        """Drops what expired by `now` (monotonic s); returns how many.

        Without a limit it looks at every entry. With one it drops at most `limit` and looks at no
        more than 64 times as many; the next call goes on where it ended.
        """
        names, self._unswept = self._unswept, []
        if not limit or not names:
            names = list(self._entries)  # one C call: atomic among threads
        looks = limit * _LOOKS_PER_DROP if limit else len(names)
        dropped = 0
        while names and looks and (dropped < limit or not limit):
            looks -= 1
            entry = self._entries.get(names.pop())
            if entry is not None and entry.expires <= now:
                dropped += self._drop(entry)
        self._unswept = names
        return dropped

    def shed(self, share: float) -> int:
        """Evicts the least valuable `share` (0 to 1) of the bytes held; returns how many entries
        went.
        """
        with self._lock:
            keep = self._bytes * (1.0 - share)
        return self._evict_beyond(lambda: self._bytes > keep)

    def limit(self, share: float, *, room: float = 1.0, admit: bool = True) -> int:
        """Puts `share` (0 to 1) of both configured bounds in force, of the bytes no more than
        `room` (0 to 1), and evicts what is beyond them, in bounded steps; returns how many entries
        went. With `admit` off, or a share of 0, nothing comes in.
        """
        entries, size = self._configured
        with self._lock:
            self._share, self._admits = min(share, room), admit
            self._max_entries = int(entries * share)
            self._max_bytes = int(size * min(share, room))
            self._policy.resize(self._max_entries, self._max_bytes)
        return self._evict_beyond(
            lambda: self._bytes > self._max_bytes or len(self._entries) > self._max_entries
        )

    def info(self) -> L1Info:
        with self._lock:
            return L1Info(
                size=len(self._entries),
                max_size=self._configured[0],
                bytes=self._bytes,
                max_bytes=self._configured[1],
                evictions=self._evictions,
                rejected=self._rejected,
                policy=self._name,
                share=self._share,
                admits=self._admits and self._max_entries > 0 and self._max_bytes > 0,
            )

    def _put(self, entry: Entry, evicted: list[Entry]) -> bool:
        entries = self._entries
        old = entries.get(entry.key)
        others = len(entries)
        if old is not None:
            self._policy.discard(old)
            self._bytes -= old.weight
            entry.hits = old.hits
            others -= 1
        if entry.weight > self._max_bytes or self._max_entries < 1 or not self._admits:
            entries.pop(entry.key, None)
            self._rejected += 1
            return False
        room = self._max_bytes - entry.weight
        while self._bytes > room or others >= self._max_entries:
            evicted.append(self._evict())
            others -= 1
        entries[entry.key] = entry
        self._policy.admit(entry)
        self._bytes += entry.weight
        return True

    def _evict_beyond(self, beyond: Callable[[], bool]) -> int:
        """Evicts while it is `beyond`, letting others in between; how many went."""
        gone = 0
        while True:
            evicted: list[Entry] = []
            with self._lock:
                try:
                    while self._entries and len(evicted) < _STEP and beyond():
                        evicted.append(self._evict())
                except MemoryError:
                    gone += self._drop_all()
                over = not self._entries or not beyond()
            self._tell(evicted)
            gone += len(evicted)
            if over:
                return gone

    def _drop_all(self) -> int:
        count = len(self._entries)
        self._entries.clear()
        self._policy.clear()
        self._bytes = 0
        return count

    def _drop(self, entry: Entry) -> bool:
        """Drops this very entry, unless another took its name meanwhile."""
        with self._lock:
            if self._entries.get(entry.key) is not entry:
                return False
            del self._entries[entry.key]
            self._policy.discard(entry)
            self._bytes -= entry.weight
            return True

    def _evict(self) -> Entry:
        entry = self._policy.victim()
        del self._entries[entry.key]
        self._bytes -= entry.weight
        self._evictions += 1
        return entry

    def _tell(self, evicted: list[Entry]) -> None:
        if self._on_evict is not None:
            for entry in evicted:
                self._on_evict(entry)
