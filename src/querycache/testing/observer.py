"""An observer that remembers."""

from __future__ import annotations

from querycache.events import Event


class RecordingObserver:
    """Remembers every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[Event]) -> list[Event]:
        """The events of one type, in order."""
        return [event for event in self.events if isinstance(event, kind)]
