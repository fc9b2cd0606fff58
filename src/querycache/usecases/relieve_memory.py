"""Relieve memory: L1 gives up a share where memory is short, and grows back when it no longer is.

There are two water marks, in shares of the memory that the process may have. Above the first, L1
gives up a tenth of what it holds at each look, the least valuable first, down to a twentieth of
its bound. Above the second it gives up half, and takes nothing in. Each mark is left only some way
below it, and then L1 grows back by a fiftieth of its bound at each look, as long as memory stays
that far below. At no time may its bytes grow further than to midway between the marks before the
next look: whoever fills it without a pause does not let a look happen.
"""

from __future__ import annotations

from collections.abc import Callable

from querycache.events import Pressure
from querycache.ports.memory import Level, Reading
from querycache.ports.observer import Observer
from querycache.ports.tiers import L1

_LEFT = 0.95  # the share of a mark below which it is left again
_KEPT = 0.9  # of what it holds, at each look above the first mark
_KEPT_IF_CRITICAL = 0.5
_LEAST = 0.05  # of the bound: what a warning leaves it
_GROW = 0.02  # of the bound, at each look
_COST = 1.25  # bytes of memory for each that L1 counts, at most
_STALLED = 20.0  # percent of time lost to waiting for memory that is a warning by itself


class RelieveMemory:
    """The use case; `turn` is one look. Safe under threads as long as turns don't overlap.

    Attributes:
        level: Where memory stands, as of the last look.
        reading: What was seen then; None before the first.
        share: The share of its bytes that L1 may use.
        sheds: How many entries were given up so far.
    """

    def __init__(
        self,
        l1: L1,
        observer: Observer,
        read: Callable[[], Reading],
        *,
        warning: float,
        critical: float,
    ) -> None:
        """`warning` and `critical` are the marks."""
        self.level: Level = "normal"
        self.reading: Reading | None = None
        self.share = 1.0
        self.sheds = 0
        self._l1 = l1
        self._observer = observer
        self._read = read
        self._marks = (warning, critical)
        self._allowed: tuple[float, float] = (1.0, 1.0)

    def turn(self) -> int:
        """Looks, and has L1 give up or grow; how many entries went."""
        reading = self.reading = self._read()
        before, self.level = self.level, self._judged(reading)
        allowed = self._share_of(reading), self._room_of(reading)
        shed = 0
        if allowed != self._allowed or self.level != before:
            share, room = allowed
            shed = self._l1.limit(share, room=room, admit=self.level != "critical")
            self._allowed, self.share = allowed, min(allowed)
        self.sheds += shed
        if self.level != before:
            self._observer.emit(Pressure("", self.level, reading.used, reading.limit, shed))
        return shed

    def _judged(self, reading: Reading) -> Level:
        """Where memory stands; a mark that was passed holds until it is left."""
        warning, critical = self._marks
        left_critical = critical * (_LEFT if self.level == "critical" else 1.0)
        left_warning = warning * (_LEFT if self.level != "normal" else 1.0)
        if reading.share >= left_critical:
            return "critical"
        return "warning" if _stalls(reading) or reading.share >= left_warning else "normal"

    def _share_of(self, reading: Reading) -> float:
        """The share of its bounds that L1 may use until the next look."""
        info = self._l1.info()
        warning, critical = self._marks
        share, _ = self._allowed
        if not (info.max_bytes and info.max_size):
            return 1.0
        if self.level == "normal":
            return min(1.0, share + _GROW) if reading.share < warning * _LEFT else share
        short = _stalls(reading) or reading.share >= warning
        if not short:  # on its way down
            return share
        held = max(info.bytes / info.max_bytes, info.size / info.max_size)
        most = min(share, held)
        if reading.share >= critical:
            return most * _KEPT_IF_CRITICAL
        return max(most * _KEPT, min(share, _LEAST))

    def _room_of(self, reading: Reading) -> float:
        """The share of its bytes that there is memory for, however many entries they are."""
        info = self._l1.info()
        midway = sum(self._marks) / 2 * reading.limit
        most = info.bytes + max(0.0, midway - reading.used) / _COST
        return min(1.0, most / info.max_bytes) if info.max_bytes else 1.0


def _stalls(reading: Reading) -> bool:
    return reading.stalled is not None and reading.stalled >= _STALLED
