"""The observer: who listens to events."""

from __future__ import annotations

from typing import Protocol

from querycache.events import Event


class Observer(Protocol):
    """Listens. `emit` never raises, never blocks and never awaits: it is called in the middle of
    reads and writes.
    """

    def emit(self, event: Event) -> None: ...
