"""The backplane of processes that share a Redis: what its connections are told, until it is asked.

Design note. The server tells each tracked connection of every change, in the order of its stream,
on the connection that the reads travel on. So a reply that was parsed before a push was true when
the push came, and whoever drains after the push knows of it. What follows from that:

- A connection is tracked before the first request travels on it: what this process learns over a
  connection, it hears the changes of. A connection that joins needs no clearing, unless this
  process kept something that it could not have been told about: while one was away, or when L2
  had failed.
- Each connection that drops means `lost`, and `deaf` until it is back: clear first, then
  short-lived entries only; when it has joined again, clear once more. So does a node that a
  cluster has gained, since it was written to before it was heard. One that is gone for good
  (its loop has ended) takes nothing from what the others hear, so while another is up and none is
  away nothing is lost. A process without any connection is deaf.
- The changes of this process come back to it under its own source, and are left out; a connection
  of another loop of this process hears the same and leaves it out too. A counter comes back
  without a source: it is reported, and the core asks L2 for it. That is right also where another
  process moved it right after us.
- A nil push (FLUSHALL, FLUSHDB) is `lost`.
- Where the server lets nobody track, numbered messages of a channel say the same. A number that
  does not follow on is `lost`. Silence is told from quiet by asking for the counter of the
  messages on the same connection: a number that was never heard is `lost` too.
- What is pending is bounded; beyond that it is `lost`.
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, cast

from querycache.clock import Clock
from querycache.ports.tiers import Changes
from querycache.tiers.redis.lag import Lag
from querycache.tiers.redis.names import Names, from_wire

PENDING_LIMIT: Final = 10_000

HEARS_S: Final = 1.5
"""For so long after a loop has looked at its sockets, L1 is served from."""

_EVER: Final = float("inf")

_SOURCE_SIZE: Final = 12


class RedisBackplane:
    """What this process is told. Safe under threads.

    Attributes:
        epoch: Moves with every change that is pending, and whenever it becomes deaf or is so no
            more.
        source: Who this process is to the others; another one after a fork.
    """

    def __init__(self, names: Names, clock: Clock, *, limit: int = PENDING_LIMIT) -> None:
        self._epoch = [0]
        self.epoch: Sequence[int] = self._epoch
        self._hears_until = [_EVER]
        self.hears_until: Sequence[float] = self._hears_until
        self.source = _new_source()
        self._names = names
        self._clock = clock
        self._limit = limit
        self._lock = threading.Lock()
        self._ears: list[Ear] = []
        self._pending: dict[bytes, None] = {}
        self._lost = False
        self._untold = False
        self._deaf = True
        self._lag = Lag(clock)

    # --- what the core asks --------------------------------------------------------------------

    def drain(self) -> Changes:
        """See the port."""
        with self._lock:
            pending, self._pending = self._pending, {}
            lost, self._lost = self._lost, False
            names = self._names
            counters = names.counters
            return Changes(
                keys=tuple(from_wire(name) for name in pending if not name.startswith(counters)),
                tags={names.tag_of(name): None for name in pending if name.startswith(counters)},
                seen=self._epoch[0],
                lost=lost,
                deaf=self._deaf,
            )

    def close(self) -> None:
        """Nothing of its own to close: the connections are the tier's."""

    # --- what the tier tells -------------------------------------------------------------------

    def ear(self, *, clustered: bool) -> Ear:
        """The listener of one event loop's connections."""
        ear = Ear(self, clustered=clustered)
        with self._lock:
            self._ears.append(ear)
        return ear

    def failed(self) -> None:
        """L2 could not be asked: what the core keeps meanwhile, nobody tells about."""
        self._untold = True

    def after_fork(self) -> None:
        """Makes a child of the process a process of its own: it has no connections yet."""
        self._lock = threading.Lock()
        self.source = _new_source()
        self._ears = []
        self._pending = {}
        self._lag = Lag(self._clock)
        self._lost = self._deaf = True
        self._epoch[0] += 1

    # --- how long a change takes to arrive -----------------------------------------------------

    @property
    def lag_ms(self) -> float | None:
        """How long the last touch of the probe took to come back, in ms; longer while one is
        overdue. None before the first.
        """
        return self._lag.last_ms()

    @property
    def worst_lag_ms(self) -> float | None:
        """The longest of the last minute."""
        return self._lag.worst_ms()

    def probe(self) -> bytes | None:
        """The name to touch now; None while it is too early for that, or another loop does it."""
        with self._lock:
            tracked = any(ear.tracked for ear in self._ears)
            return self._names.probe(self.source) if tracked and self._lag.begin() else None

    # --- what the ears hear --------------------------------------------------------------------

    def invalidated(self, names: list[bytes] | None) -> None:
        """A push of a tracked connection."""
        if names is None:
            self.lose()
            return
        known = self._names
        shadows, counters = known.shadows, known.counters
        changed: list[bytes] = []
        for name in names:
            if name.startswith(shadows):
                source, entry = known.unshadow(name, _SOURCE_SIZE)
                if source != self.source:
                    changed.append(entry)
            elif name.startswith(counters):
                changed.append(name)
            elif name == known.probe(self.source):
                self._lag.end()
        if changed:
            self.changed(changed)

    def changed(self, names: list[bytes]) -> None:
        """Entries and counters that are no longer what they were."""
        with self._lock:
            self._pending.update(dict.fromkeys(names))
            if len(self._pending) > self._limit:
                self._pending.clear()
                self._lost = True
            self._epoch[0] += 1

    def lose(self) -> None:
        """Something was missed."""
        with self._lock:
            self._lost = True
            self._epoch[0] += 1

    def arrive(self, change: Callable[[], bool]) -> None:
        """`change` notes in an ear that a connection joined; it says whether one had been away."""
        with self._lock:
            if change() or self._untold:
                self._lost = True
            self._untold = False
            self._hear_anew()

    def depart(self, change: Callable[[], None], *, missed: bool) -> None:
        """`change` notes in an ear that connections left; `missed`: what they would have told is
        missing.
        """
        with self._lock:
            change()
            self._ears = [ear for ear in self._ears if not ear.ended]
            self._lost = self._lost or missed or not any(ear.present for ear in self._ears)
            self._hear_anew()

    def awake(self) -> None:
        """A loop looks at its sockets, and bytes have come from the servers of late."""
        if not self._deaf:
            self._hears_until[0] = self._clock.monotonic() + HEARS_S

    def _hear_anew(self) -> None:
        away = any(ear.away for ear in self._ears)
        self._deaf = away or not any(ear.present for ear in self._ears)
        self._hears_until[0] = _EVER if self._deaf else self._clock.monotonic() + HEARS_S
        self._epoch[0] += 1


class Ear:
    """What the connections of one event loop live through: a `link.Listener`.

    Attributes:
        present: The connections that hear.
        away: Where connections dropped that are being made again, each with their number.
        tracked: Whether the server tells them by itself.
        ended: Whether its loop has ended.
    """

    def __init__(self, backplane: RedisBackplane, *, clustered: bool) -> None:
        self.present: set[object] = set()
        self.away: Counter[str] = Counter()
        self.tracked = False
        self.ended = False
        self.number: int | None = None  # of the last message
        self._backplane = backplane
        self._clustered = clustered

    def joined(self, channel: object, *, late: bool = False) -> None:
        """See `link.Listener`."""

        def note() -> bool:
            away = bool(self.away)
            if self._clustered:
                self.away.pop(_where(channel), None)
            else:
                self.away.clear()
            self.present.add(channel)
            self.tracked = getattr(channel, "hearing", "tracked") == "tracked"
            self.number = None
            return away or late

        self._backplane.arrive(note)

    def left(self, channel: object, *, gone: bool) -> None:
        """See `link.Listener`."""
        if channel not in self.present:
            return

        def note() -> None:
            self.present.discard(channel)
            if not gone:
                self.away[_where(channel)] += 1

        self._backplane.depart(note, missed=not gone)

    def heard(self, push: list[object]) -> None:
        """See `link.Listener`."""
        if push[0] == b"invalidate":
            self._backplane.invalidated(cast("list[bytes] | None", push[1]))
        elif push[0] == b"message" and isinstance(push[2], bytes):
            self._message(push[2])

    def retain(self, where: set[str]) -> None:
        """Nobody waits any more for nodes that are none of these."""
        if not self.away.keys() <= where:

            def note() -> None:
                for gone in self.away.keys() - where:
                    del self.away[gone]

            self._backplane.depart(note, missed=False)

    def counted(self, number: int | None, before: int | None) -> None:
        """The counter of messages stands at `number`; None where there is none. `before` is the
        number of the last message as it was when the counter was asked for.
        """
        if number is None:
            missed = before is not None
        else:
            heard = self.number
            missed = heard is not None and (number > heard or (before or 0) > number)
        if self.number is None or missed:
            self.number = number
        if missed:
            self._backplane.lose()

    def end(self) -> None:
        """Its loop has ended, and its connections with it."""

        def note() -> None:
            self.present.clear()
            self.away.clear()
            self.ended = True

        self._backplane.depart(note, missed=False)

    def _message(self, payload: bytes) -> None:
        backplane = self._backplane
        parts = payload.split(b" ", 3)
        if len(parts) < 4 or not parts[0].isdigit():  # noqa: PLR2004 -- number, source, kind, name
            backplane.lose()
            return
        number = int(parts[0])
        follows = self.number is None or number == self.number + 1
        self.number = number
        if not follows:
            backplane.lose()
        if parts[2] == b"t" or parts[1] != backplane.source:
            backplane.changed([parts[3]])


def _new_source() -> bytes:
    return secrets.token_hex(_SOURCE_SIZE // 2).encode()


def _where(channel: object) -> str:
    return str(getattr(channel, "where", ""))
