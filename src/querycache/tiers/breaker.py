"""The circuit breaker: whether a server may be asked, and when it is tried again."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Final, Literal

from querycache.clock import Clock

Failure = Literal["hard", "soft"]
"""Hard: refused, reset, closed, auth, TLS. Soft: a live server's time-out. What a server answers,
be it an error, is no failure.
"""

_HARD_S: Final = 0.2
_FIRST_S: Final = 0.25
_LONGEST_S: Final = 2.0
_JITTER: Final = 0.2
_SOFT_LIMIT: Final = 3
_WINDOW_S: Final = 5.0


class Breaker:
    """Hard failures open it at once, soft ones after three within five seconds. While it is open
    one probe at a time decides: after a hard failure at a constant interval of at most 250 ms,
    after soft ones at intervals that double from 0.25 s to 2 s.

    For one event loop; synchronous.
    """

    def __init__(self, clock: Clock, *, chance: Callable[[], float] = random.random) -> None:
        """`chance` gives numbers from 0 to 1, for the jitter."""
        self.open = False
        self._clock = clock
        self._chance = chance
        self._late: deque[float] = deque(maxlen=_SOFT_LIMIT)
        self._backoff_s = _FIRST_S
        self._due = 0.0
        self._closed_at = float("-inf")
        self._probing = False

    def failed(self, kind: Failure) -> bool:
        """Traffic met a failure; whether that opened the breaker."""
        if self.open:
            return False
        now = self._clock.monotonic()
        if kind == "soft":
            self._late.append(now)
            if len(self._late) < _SOFT_LIMIT or now - self._late[0] > _WINDOW_S:
                return False
        self._trip(kind, now)
        return True

    def wait(self) -> float:
        """Seconds until the next probe is due."""
        return max(0.0, self._due - self._clock.monotonic())

    def probe(self) -> bool:
        """Whether to probe now. Who gets True must report with `probed`; until then nobody else
        gets it.
        """
        if not self.open or self._probing or self.wait() > 0:
            return False
        self._probing = True
        return True

    def probed(self, failure: Failure | None) -> None:
        """How the probe ended; None closes the breaker."""
        now = self._clock.monotonic()
        self._probing = False
        if failure is None:
            self.open = False
            self._late.clear()
            self._backoff_s = _FIRST_S
            self._closed_at = now
        elif failure == "hard":
            self._backoff_s = _FIRST_S
            self._due = now + self._spread(_HARD_S)
        else:
            self._due = now + self._spread(self._backoff_s)
            self._backoff_s = min(_LONGEST_S, 2 * self._backoff_s)

    def _trip(self, kind: Failure, now: float) -> None:
        self.open = True
        if kind == "hard":  # at once, unless it was tried just now
            self._due = max(now, self._closed_at + self._spread(_HARD_S))
        else:
            self._due = now + self._spread(_FIRST_S)
            self._backoff_s = 2 * _FIRST_S

    def _spread(self, seconds: float) -> float:
        return min(_LONGEST_S, seconds * (1 - _JITTER + 2 * _JITTER * self._chance()))
