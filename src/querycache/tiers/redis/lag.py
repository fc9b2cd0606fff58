"""How long a change takes to come back from the server."""

from __future__ import annotations

from collections import deque
from typing import Final

from querycache.clock import Clock

PROBE_S: Final = 2.0
"""Between two touches, at least."""

_MINUTE_S: Final = 60.0


class Lag:
    """How long a change takes from its request to its push. One touch is under way at a time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = float("-inf")
        self._waiting = False
        self._samples: deque[tuple[float, float]] = deque(maxlen=64)  # when it came (s), ms

    def begin(self) -> bool:
        """Whether it is time for a touch, which is under way from now on."""
        now = self._clock.monotonic()
        if now - self._began < PROBE_S:
            return False
        if self._waiting:
            self._note(now)
        self._began = now
        self._waiting = True
        return True

    def end(self) -> None:
        """The touch was heard."""
        if self._waiting:
            self._waiting = False
            self._note(self._clock.monotonic())

    def last_ms(self) -> float | None:
        if not self._samples:
            return None
        since = (self._clock.monotonic() - self._began) * 1000 if self._waiting else 0.0
        return max(self._samples[-1][1], since)

    def worst_ms(self) -> float | None:
        last = self.last_ms()
        if last is None:
            return None
        after = self._clock.monotonic() - _MINUTE_S
        return max([last, *(ms for at, ms in tuple(self._samples) if at >= after)])

    def _note(self, now: float) -> None:
        self._samples.append((now, (now - self._began) * 1000))
