"""The last events, and how many there were of each kind."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import cast

import msgspec

from querycache.clock import Clock
from querycache.events import (
    Event,
    FileChanged,
    Invalidated,
    Missed,
    NotStored,
    Pressure,
    TierFailed,
    Unreadable,
)

_LABELS: dict[type[Event], str] = {
    Missed: "reason",
    NotStored: "reason",
    Unreadable: "reason",
    TierFailed: "operation",
    Pressure: "level",
}
_TYPES: dict[str, type[Event]] = {type_.__name__: type_ for type_ in Event.__subclasses__()}


class EventRing:
    """An observer that counts every event and keeps the last `limit` with their wall time.

    `emit` costs an append and one or two increments, without a lock.
    """

    def __init__(self, limit: int, clock: Clock) -> None:
        self._kept: deque[tuple[float, Event]] = deque(maxlen=limit)
        self._wall = clock.wall
        self._counts: dict[str, int] = dict.fromkeys(_TYPES, 0)
        self._labels: dict[tuple[str, str], int] = {}

    def emit(self, event: Event) -> None:
        """Takes note of an event."""
        type_ = type(event)
        name = type_.__name__
        self._kept.append((self._wall(), event))
        self._counts[name] = self._counts.get(name, 0) + 1
        if (attribute := _LABELS.get(type_)) is not None:
            label = (name, cast("str", getattr(event, attribute)))
            self._labels[label] = self._labels.get(label, 0) + 1

    @property
    def counts(self) -> Mapping[str, int]:
        """How many events of each type there were: `{"Hit": 3, "Missed": 1, ...}`."""
        return MappingProxyType(self._counts)

    def by_label(self, type_: type[Event]) -> dict[str, int]:
        """How many events of one type there were: by reason, or for `TierFailed` by operation."""
        name = type_.__name__
        return {label: n for (of, label), n in self._labels.copy().items() if of == name}

    def events(self) -> list[tuple[float, Event]]:
        """What is kept, oldest first, each with its wall seconds."""
        return list(self._kept)

    def events_of(self, key: str, tags: Collection[str] = ()) -> list[tuple[float, Event]]:
        """What is kept of one entry, oldest first, with the invalidations of its `tags`."""
        return concerning(self.events(), key, tags)

    def rows(self) -> list[Sequence[object]]:
        """What is kept as rows of plain values, for `events_from`."""
        return [
            (round(at, 3), type(event).__name__, *map(_plain, msgspec.structs.astuple(event)))
            for at, event in self.events()
        ]


def events_from(rows: Iterable[object]) -> list[tuple[float, Event]]:
    """The events that `EventRing.rows` told, here or in another process; rows that this version
    doesn't know are left out.
    """
    return [told for row in rows if (told := _event_from(row)) is not None]


def concerning(
    events: Iterable[tuple[float, Event]], key: str, tags: Collection[str] = ()
) -> list[tuple[float, Event]]:
    """Those events that concern one entry: its own, the invalidations of its `tags`, and the
    changes of files that it is tagged with.
    """
    return [
        (at, event)
        for at, event in events
        if event.key == key
        or (isinstance(event, Invalidated) and event.tag in tags)
        or (isinstance(event, FileChanged) and f"file:{event.key}" in tags)
    ]


def _plain(value: object) -> object:
    """A field that JSON can say: an error's words may hold lone surrogates."""
    if not isinstance(value, str) or value.isascii():
        return value
    return value.encode(errors="backslashreplace").decode()


def _event_from(row: object) -> tuple[float, Event] | None:
    try:
        at, name, *values = msgspec.convert(row, list[object])
        type_ = _TYPES[msgspec.convert(name, str)]
        fields = dict(zip(type_.__struct_fields__, values, strict=True))
        return msgspec.convert(at, float), msgspec.convert({"type": name, **fields}, type_)
    except (KeyError, ValueError):  # msgspec's ValidationError is a ValueError
        return None
