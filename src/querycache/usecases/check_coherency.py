"""Check that the tiers agree, and heal what does not."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from querycache.cache.policy import Policy
from querycache.cache.two_tier import TwoTier
from querycache.clock import Clock
from querycache.errors import TierError
from querycache.keys import Namer
from querycache.values import Kind


class Coherency(msgspec.Struct, frozen=True):
    """What a check found. Entries that differed were dropped from L1, so that L2 decides again.

    `note` says why the tiers could not be compared, where they could not.
    """

    coherent: bool
    l1_l2_consistent: bool
    stale_entries: int
    mismatched_keys: tuple[str, ...]
    checked_keys: int
    timestamp: float
    note: str = ""


class CheckCoherency:
    """The use case: compares what L1 holds with what L2 holds under the same names.

    An entry that L2 no longer has (it was evicted) is no mismatch: it is still true.
    """

    def __init__(
        self, core: TwoTier, namer: Namer, policies: Mapping[Kind, Policy], clock: Clock
    ) -> None:
        self._core = core
        self._namer = namer
        self._policies = policies
        self._clock = clock

    async def __call__(self, limit: int = 0) -> Coherency:
        """Looks at all entries of L1, or at `limit` of them."""
        self._core.generations.catch_up()
        keys = [
            key
            for key in list(self._core.l1.entries)
            if self._policies[self._namer.kind_of(key)].l2
        ]
        checked = keys[:limit] if limit else keys
        try:
            mismatched = [key for key in checked if await self._core.examiner.differs(key)]
        except TierError as error:
            return self._result([], 0, f"L2 can't be read: {error}")
        for key in mismatched:
            self._core.l1.remove(key)
        return self._result(mismatched, len(checked), "" if keys else "nothing to compare")

    def _result(self, mismatched: list[str], checked: int, note: str) -> Coherency:
        fine = not mismatched
        return Coherency(
            fine, fine, len(mismatched), tuple(mismatched), checked, self._clock.wall(), note
        )
