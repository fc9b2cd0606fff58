"""What this process stored or found lately: says why a name that no tier has is no longer there.

A table of fixed size, in which a later name displaces an earlier one of the same place: a reason
is told for the recent past, and costs a write three array slots.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence

from querycache.cache.generations import Generations, Stamps
from querycache.clock import Clock
from querycache.events import MissReason
from querycache.values import Kind

_SLOTS = 1 << 14
_RECENT = 8
_REMOVED = -1.0


class Past:
    """Remembers names that were there. Safe under threads: what is lost to a race is a reason.

    Attributes:
        recent: The last names of each kind.
    """

    def __init__(self, generations: Generations, clock: Clock) -> None:
        self.recent = {kind: deque[str](maxlen=_RECENT) for kind in Kind}
        self._generations = generations
        self._now = clock.monotonic
        self._marks = array("q", bytes(8 * _SLOTS))
        self._until = array("d", bytes(8 * _SLOTS))
        self._stamps: list[Stamps] = [()] * _SLOTS

    def note(self, key: str, kind: Kind, until: float, stamps: Stamps) -> None:
        """`key` is there, until its hard expiry (monotonic s), under these stamps."""
        mark = hash(key)
        place = mark % _SLOTS
        self._marks[place] = mark
        self._until[place] = until
        self._stamps[place] = stamps
        self.recent[kind].append(key)

    def removed(self, keys: Sequence[str]) -> None:
        """These went on purpose, here or elsewhere."""
        for key in keys:
            mark = hash(key)
            place = mark % _SLOTS
            if self._marks[place] == mark:
                self._until[place] = _REMOVED

    def why(self, key: str) -> MissReason:
        """Why `key`, which no tier has, is not there: "absent" where it never was, or not
        lately.
        """
        mark = hash(key)
        place = mark % _SLOTS
        if self._marks[place] != mark:
            return "absent"
        until, stamps = self._until[place], self._stamps[place]
        if until == _REMOVED or self._generations.outdated(stamps):
            return "invalidated"
        return "expired" if until <= self._now() else "evicted"
