"""Explain an entry: where it is, its stamps, and what happened to it last."""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from querycache.cache.examining import Examined
from querycache.cache.two_tier import TwoTier
from querycache.cache.typed import kind_tag
from querycache.events import Event
from querycache.keys import Namer
from querycache.values import Kind

Told = tuple[float, str, Event]
"""Wall seconds, which process, what."""


class Explained(msgspec.Struct, frozen=True):
    """An entry and its last events, oldest first."""

    key: str
    kind: Kind
    entry: Examined
    events: tuple[Told, ...]


class ExplainKey:
    """The use case."""

    def __init__(
        self,
        core: TwoTier,
        namer: Namer,
        events_of: Callable[[str, Collection[str]], list[Told]],
    ) -> None:
        """`events_of` tells the events of a name, and of tags, in all living processes."""
        self._core = core
        self._namer = namer
        self._events_of = events_of

    async def __call__(self, key: str) -> Explained:
        """Explains a full name, or a caller's own key."""
        name = self._namer.full(key)
        kind = self._namer.kind_of(name)
        examined = await self._core.examiner.examine(name)
        found = examined.l2 or examined.l1
        tags = [state.tag for state in found.tags] if found else [kind_tag(kind)]
        tags.append(key)  # `file:<path>` is also the tag of what was derived from the file
        return Explained(name, kind, examined, tuple(self._events_of(name, tags)))
