"""Clean up: drop the entries of some kinds, or all that is under this prefix, in every process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from querycache.cache.two_tier import TwoTier
from querycache.clock import Clock
from querycache.errors import TierError
from querycache.keys import Namer
from querycache.values import Kind

_PAUSES_S = (0.1, 0.4)

Cut = Callable[[Kind], Awaitable[tuple[int, bool]]]
"""Makes a kind unreachable and reclaims what it held; how many entries, and whether other
processes were told.
"""


class Cleaned(msgspec.Struct, frozen=True):
    """How many entries of each kind were deleted. `told` is False while L2 can't be reached: then
    it and other processes still serve them.
    """

    deleted: Mapping[str, int]
    told: bool


class CleanUp:
    """The use case."""

    def __init__(self, core: TwoTier, namer: Namer, cut: Cut, clock: Clock) -> None:
        self._core = core
        self._namer = namer
        self._cut = cut
        self._clock = clock

    async def __call__(
        self, kinds: Sequence[Kind], deleted: Callable[[Kind, int], None] = lambda _k, _n: None
    ) -> Cleaned:
        """Deletes all entries of these kinds; `deleted` is told of each kind when it is done."""
        counts: dict[str, int] = {}
        told = True
        for kind in dict.fromkeys(kinds):
            count, heard = await self._cut(kind)
            for pause in _PAUSES_S if told else ():  # L2 may only be slow
                if heard:
                    break
                await self._clock.sleep(pause)
                more, heard = await self._cut(kind)
                count += more
            counts[str(kind)] = count
            told = told and heard
            deleted(kind, count)
        return Cleaned(counts, told)

    async def everything(self) -> Cleaned:
        """Deletes all that is under this prefix, also what is named as no entry is; counters,
        leases and salts stay, since living processes know them. What has another prefix stays.
        """
        cleaned = await self(tuple(Kind))
        self._core.l1.clear()
        try:
            strays = await self._core.l2.purge(f"{self._namer.prefix}:")
        except TierError:
            return Cleaned(cleaned.deleted, told=False)
        other = cleaned.deleted[Kind.OTHER] + strays
        return Cleaned({**cleaned.deleted, str(Kind.OTHER): other}, cleaned.told)
