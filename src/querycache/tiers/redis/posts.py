"""What processes tell of themselves: a board of fixed size, so that reading it is one request.

Who posts first takes a free place, and keeps it by posting again before its time runs out. Who
finds another's post there (it was away for longer) looks for another place the next time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, cast

from querycache.tiers.redis.link import Request
from querycache.tiers.redis.scripts import pack

if TYPE_CHECKING:
    from querycache.tiers.redis.asking import Asker
    from querycache.tiers.redis.names import Names

_LARGEST: Final = 256 * 1024


class Posts:
    """The board of one server, or of a cluster: it lies in one slot."""

    def __init__(self, asker: Asker, names: Names) -> None:
        self._asker = asker
        self._places = names.posts()
        self._taken: dict[str, bytes] = {}

    async def put(self, name: str, data: bytes, seconds: float) -> None:
        """Posts `data`; nothing where it is too large or the board is full."""
        place = self._taken.get(name)
        if not data:
            if self._taken.pop(name, None) is not None and place is not None:
                await self._ask(b"DEL", place)
            return
        if len(data) > _LARGEST:
            return
        value = b"%b\n%b" % (name.encode(), data)
        life = max(1, math.ceil(seconds * 1000))
        if place is None:
            await self._settle(name, value, life)
            return
        before = await self._ask(b"SET", place, value, b"PX", life, b"GET")
        if isinstance(before, bytes) and _name(before) != name:
            del self._taken[name]

    async def all(self) -> dict[str, bytes]:
        """What is posted, by name."""
        found = cast("list[bytes | None]", await self._ask(b"MGET", *self._places))
        told = [value.partition(b"\n") for value in found if value]
        return {_name(name): data for name, _, data in told if len(data) <= _LARGEST}

    async def _settle(self, name: str, value: bytes, life: int) -> None:
        """Takes the first free place."""
        held = cast("list[bytes | None]", await self._ask(b"MGET", *self._places))
        for place, there in zip(self._places, held, strict=True):
            if there is not None and _name(there) != name:
                continue
            only = () if there else (b"NX",)
            if await self._ask(b"SET", place, value, b"PX", life, *only) == b"OK":
                self._taken[name] = place
                return

    async def _ask(self, *words: bytes | int) -> object:
        (reply,) = await self._asker.ask([Request(self._places[0], pack(words))])
        return reply


def _name(value: bytes) -> str:
    return value.partition(b"\n")[0].decode("utf-8", "replace")
