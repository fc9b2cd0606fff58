"""A `Source` over any L2: what it lists, then reads; and patience with an L2 that is busy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from querycache.clock import Clock
from querycache.errors import TierError
from querycache.ports.backup import Dumped
from querycache.ports.tiers import L2, Listing, Read

T = TypeVar("T")

_ROWS = 500
_BYTES = 512 * 1024  # a slow network brings them within the deadline of one operation
_ATTEMPTS = 6
_PAUSE_S = 0.2


async def patiently(clock: Clock, ask: Callable[[int], Awaitable[T]]) -> T:
    """Asks again where L2 is busy for a while, for some seconds in all; `ask` is told how often it
    was asked before. Raises the last `TierError`.
    """
    for attempt in range(_ATTEMPTS - 1):
        try:
            return await ask(attempt)
        except TierError:
            await clock.sleep(_PAUSE_S * 2**attempt)
    return await ask(_ATTEMPTS - 1)


def portions(found: Sequence[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """What one request asks for or gives: some hundreds, and no more bytes than arrive in time
    (or one).
    """
    part: list[T] = []
    weight = 0
    for one in found:
        if part and (len(part) == _ROWS or weight + size(one) > _BYTES):
            yield part
            part, weight = [], 0
        part.append(one)
        weight += size(one)
    if part:
        yield part


class ListedSource:
    """Reads an L2 as others do, so that it may count as a use of what is read."""

    def __init__(self, l2: L2, clock: Clock) -> None:
        self._l2 = l2
        self._clock = clock

    async def dump(self, prefix: str) -> AsyncIterator[Sequence[Dumped]]:
        page: list[Listing] = []
        weight = 0
        async for listing in self._l2.scan(prefix):
            if page and (len(page) == _ROWS or weight + listing.size > _BYTES):
                yield await self._read(page)
                page, weight = [], 0
            page.append(listing)
            weight += listing.size
        if page:
            yield await self._read(page)

    async def peek(self, keys: Sequence[str]) -> list[Read]:
        return await patiently(self._clock, lambda _: self._l2.read(keys))

    async def _read(self, page: Sequence[Listing]) -> list[Dumped]:
        reads = await self.peek([listing.key for listing in page])
        return [
            Dumped(listing.key, read.data, listing.expires_at, read.guard)
            for listing, read in zip(page, reads, strict=True)
            if read.data is not None
        ]
