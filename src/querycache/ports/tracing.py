"""Tracing: what wants to know when a piece of work begins and ends."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from querycache.events import Event
from querycache.ports.observer import Observer


class Tracing(Observer, Protocol):
    """An observer that is also told of requests; what happens within one belongs to it."""

    def span(
        self, name: str, attributes: Mapping[str, str] | None = None
    ) -> AbstractContextManager[object]:
        """Stands around a request."""
        ...

    def close(self) -> None:
        """Sends what waits."""
        ...


class NoTracing:
    """Nobody wants to know."""

    def emit(self, event: Event) -> None:
        """Nothing."""

    def span(
        self, name: str, attributes: Mapping[str, str] | None = None
    ) -> AbstractContextManager[object]:
        """Nothing around the block."""
        del name, attributes
        return nullcontext()

    def close(self) -> None:
        """Nothing to send."""
