"""A `Source` over any L2: what it lists, then reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from querycache.ports.backup import Dumped
from querycache.ports.tiers import L2, Listing, Read

_ROWS = 500
_BYTES = 4 * 1024 * 1024


class ListedSource:
    """Reads an L2 as others do, so that it may count as a use of what is read."""

    def __init__(self, l2: L2) -> None:
        self._l2 = l2

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
        return await self._l2.read(keys)

    async def _read(self, page: Sequence[Listing]) -> list[Dumped]:
        reads = await self._l2.read([listing.key for listing in page])
        return [
            Dumped(listing.key, read.data, listing.expires_at, read.guard)
            for listing, read in zip(page, reads, strict=True)
            if read.data is not None
        ]
