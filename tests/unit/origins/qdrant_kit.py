"""Qdrant in the memory of a test, and what it holds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from qdrant_client import QdrantClient

from querycache.clock import Clock, SystemClock
from querycache.origins.index_qdrant import Qdrant

in_memory = pytest.mark.filterwarnings(
    "ignore:Local mode performs exact",
    "ignore:Payload indexes have no effect",
)


class Memory:
    """The client's own model of a server, for one caller at a time.

    `away` names the error of each call; `before` has what happens before the next one of a name.
    """

    def __init__(self) -> None:
        self._client = QdrantClient(":memory:")
        self._lock = threading.RLock()
        self.asked: list[str] = []
        self.away = ""
        self.before: dict[str, Callable[[], object]] = {}

    @property
    def client(self) -> QdrantClient:
        return cast("QdrantClient", self)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- whatever the client has
        def call(*given: Any, **named: Any) -> Any:  # noqa: ANN401 -- likewise
            self.before.pop(name, lambda: None)()
            with self._lock:
                self.asked.append(name)
                if self.away:
                    raise ConnectionRefusedError(self.away)
                return getattr(self._client, name)(*given, **named)

        return call

    def qdrant(self, clock: Clock | None = None) -> Qdrant:
        """A process that is connected to it."""
        made = Qdrant(lambda: self.client, "team", clock or SystemClock())
        made.server.client.result(10)
        return made

    @property
    def name(self) -> str:
        """Of the one collection."""
        (collection,) = self._client.get_collections().collections
        return collection.name

    def count(self) -> int:
        """Points in all collections."""
        collections = self._client.get_collections().collections
        return sum(self._client.count(each.name).count for each in collections)

    def wipe(self) -> None:
        with self._lock:
            for each in self._client.get_collections().collections:
                self._client.delete_collection(each.name)
