"""The log: one line for each thing that went wrong, and, where asked, for each operation.

Lines go to the logger `querycache`. A field never breaks a line: it is escaped and cut. What
repeats is told once in a while, with the number of times it happened in between.
"""

from __future__ import annotations

import logging

import msgspec

from querycache.clock import Clock
from querycache.events import (
    ChannelLost,
    Event,
    Healed,
    NotStored,
    Pressure,
    TierFailed,
    Unreadable,
)
from querycache.keys import Namer
from querycache.ports.observer import Observer

LOGGER = logging.getLogger("querycache")
LOGGER.addHandler(logging.NullHandler())

_TOLD: dict[type[Event], tuple[str, ...]] = {
    TierFailed: ("tier", "operation"),
    Unreadable: ("reason",),
    ChannelLost: ("reason",),
    Healed: ("found",),
    Pressure: ("level",),
}
"""What is told, each kind of occurrence once in a while: by these fields."""

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
            LOGGER.info("%s", _line(event), extra=_fields(event))
        elif (labels := _TOLD.get(type(event))) is not None:
            self._warn(event, *(str(getattr(event, label)) for label in labels))
        elif isinstance(event, NotStored) and event.reason in {"too_big", "unsupported"}:
            kind = f"{event.reason} {self._namer.kind_of(event.key)}"
            if kind not in self._too_big:
                self._too_big.add(kind)
                LOGGER.warning("%s", _line(event), extra=_fields(event))

    def _warn(self, event: Event, *labels: str) -> None:
        now, label = self._clock.monotonic(), (type(event).__name__, *labels)
        last, missed = self._told.get(label, (-_QUIET_S, 0))
        if now - last < _QUIET_S:
            self._told[label] = (last, missed + 1)
            return
        self._told[label] = (now, 0)
        more = f" ({missed} more like it before)" if missed else ""
        LOGGER.warning("%s%s", _line(event), more, extra=_fields(event))


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


def _fields(event: Event) -> dict[str, object]:
    """The event for a log of JSON lines."""
    fields = msgspec.structs.asdict(event).items()
    told = {
        name: _field(value)[1:-1] if isinstance(value, str) else value for name, value in fields
    }
    return {"event": {"type": type(event).__name__, **told}}


def _field(value: object) -> str:
    text = str(value)
    cut = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return ascii(cut)
