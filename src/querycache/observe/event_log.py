"""The log: one line for each thing that went wrong, and, where asked, for each operation.

Lines go to the logger `querycache`. A field never breaks a line: it is escaped and cut. What
repeats is told once in a while, with the number of times it happened in between.
"""

from __future__ import annotations

import logging

import msgspec

from querycache.clock import Clock
from querycache.events import ChannelLost, Event, Healed, NotStored, TierFailed, Unreadable
from querycache.keys import Namer
from querycache.ports.observer import Observer

LOGGER = logging.getLogger("querycache")
LOGGER.addHandler(logging.NullHandler())

_TOLD = frozenset({TierFailed, Unreadable, ChannelLost, Healed, NotStored})
_QUIET_S = 10.0
_LONGEST = 256


class EventLog:
    """Writes events as lines. A value that is too big is told once for each kind."""

    def __init__(self, clock: Clock, namer: Namer, *, operations: bool) -> None:
        self._clock = clock
        self._namer = namer
        self._operations = operations
        self._told: dict[tuple[str, ...], tuple[float, int]] = {}
        self._too_big: set[str] = set()

    def emit(self, event: Event) -> None:
        if self._operations:
            LOGGER.info(_line(event))
        elif type(event) not in _TOLD:
            return
        elif isinstance(event, TierFailed):
            self._warn(event, "TierFailed", event.tier, event.operation)
        elif isinstance(event, Unreadable | ChannelLost):
            self._warn(event, type(event).__name__, event.reason)
        elif isinstance(event, Healed):
            self._warn(event, "Healed", event.found)
        elif isinstance(event, NotStored) and event.reason in {"too_big", "unsupported"}:
            kind = f"{event.reason} {self._namer.kind_of(event.key)}"
            if kind not in self._too_big:
                self._too_big.add(kind)
                LOGGER.warning(_line(event))

    def _warn(self, event: Event, *label: str) -> None:
        now = self._clock.monotonic()
        last, missed = self._told.get(label, (-_QUIET_S, 0))
        if now - last < _QUIET_S:
            self._told[label] = (last, missed + 1)
            return
        self._told[label] = (now, 0)
        more = f" ({missed} more like it before)" if missed else ""
        LOGGER.warning("%s%s", _line(event), more)


class Both:
    """Two observers as one."""

    def __init__(self, first: Observer, second: Observer) -> None:
        self._first = first
        self._second = second

    def emit(self, event: Event) -> None:
        self._first.emit(event)
        self._second.emit(event)


def _line(event: Event) -> str:
    fields = msgspec.structs.asdict(event)
    told = " ".join(f"{name}={_field(value)}" for name, value in fields.items())
    return f"{type(event).__name__} {told}"


def _field(value: object) -> str:
    text = str(value)
    cut = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return ascii(cut)
