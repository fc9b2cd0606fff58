"""Requests and their replies: scripts that the server has forgotten, errors, new numbers."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final, cast

from hiredis import ReplyError

from querycache.errors import TierError
from querycache.tiers.redis.inspection import where_of
from querycache.tiers.redis.link import RefusedError, Reply, Request
from querycache.tiers.redis.loops import Loops
from querycache.tiers.redis.scripts import CREATE, Call

_DIGITS: Final = 19  # at most, of a version or counter


class Asker:
    """Asks over the link of the running loop."""

    def __init__(self, loops: Loops, where: str) -> None:
        self.link = loops.link
        self._default = where
        self._loops = loops

    async def ask(self, asked: Sequence[Request | Call]) -> list[Reply]:
        """The reply of each. Raises the first error; the others may have been done even so."""
        if not asked:
            return []
        replies = await self._sent([a.request() if isinstance(a, Call) else a for a in asked])
        again = {
            place: call.in_full()
            for place, call in enumerate(asked)
            if isinstance(call, Call) and _unknown(replies[place])
        }
        if again:
            for place, reply in zip(again, await self._sent([*again.values()]), strict=True):
                replies[place] = reply
        for reply in replies:
            if isinstance(reply, TierError):
                raise reply
            if isinstance(reply, ReplyError):
                raise self.refused(reply)
        return replies

    async def created(self, names: Sequence[bytes]) -> dict[bytes, int]:
        """The number under each name, which is a new one where there was none."""
        replies = await self.ask([Call(CREATE, (name,), (fresh(),)) for name in names])
        return {name: int(cast("bytes", at)) for name, at in zip(names, replies, strict=True)}

    def values(self, reply: Reply) -> list[bytes | None]:
        """The values that MGET found."""
        if isinstance(reply, ReplyError):
            raise self.refused(reply)
        return cast("list[bytes | None]", reply)

    def value(self, reply: Reply) -> bytes | None:
        """The value that GET found; None also for what is of another type."""
        if isinstance(reply, ReplyError) and not str(reply).startswith("WRONGTYPE"):
            raise self.refused(reply)
        return reply if isinstance(reply, bytes) else None

    def refused(self, reply: ReplyError) -> RefusedError:
        return RefusedError(f"{reply} (Redis at {self.where()})")

    def where(self) -> str:
        """The addresses of the servers, as far as they are known."""
        places = [where_of(link) for link in self._loops.links()]
        return next((place for place in places if place), self._default)

    async def _sent(self, requests: Sequence[Request]) -> list[Reply]:
        link = self.link()
        if len(requests) == 1:
            return await link.call(requests[0])
        found = await link.call_many(requests)
        return [one if isinstance(one, TierError) else one[0] for one in found]


def fresh() -> int:
    """A number that was never drawn before."""
    return secrets.randbits(62)


def number(value: bytes | None) -> int | None:
    """A version or a counter; None for what is none."""
    return int(value) if value and value.isdigit() and len(value) <= _DIGITS else None


def _unknown(reply: Reply) -> bool:
    return isinstance(reply, ReplyError) and str(reply).startswith("NOSCRIPT")
