"""Check that the tiers agree, and heal what does not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

import msgspec

from querycache.cache.examining import Checks
from querycache.cache.policy import Policy
from querycache.cache.two_tier import TwoTier
from querycache.clock import Clock
from querycache.errors import TierError
from querycache.events import Difference
from querycache.keys import Namer
from querycache.values import Kind

_LISTED = 1000
"""How many names of entries that differed are told one by one."""


class Coherency(msgspec.Struct, frozen=True):
    """What a check found. Entries that differed were dropped from L1, so that L2 decides again.

    Attributes:
        coherent: L2 could be read, and nothing differed.
        l1_l2_consistent: Nothing differed of what was compared.
        stale_entries: How many differed.
        mismatched_keys: Their names in L2, the first thousand of them.
        checked_keys: How many entries of L1 were compared.
        absent: Of how many of those L2 holds nothing that it would serve: no difference.
        differences: How many differed in which way, as seen from L1: L2 held something `newer`,
            `older`, `altered` (of the same birth) or `unreadable`.
        timestamp: When it ended, in wall seconds.
        took_ms: How long it took.
        note: Why the tiers could not be compared, or not all of them.
    """

    coherent: bool
    l1_l2_consistent: bool
    stale_entries: int
    mismatched_keys: tuple[str, ...]
    checked_keys: int
    absent: int
    differences: dict[Difference, int]
    timestamp: float
    took_ms: float
    note: str = ""


class CheckCoherency:
    """The use case: compares what L1 serves with what L2 holds under the same names.

    An entry that L2 no longer has (it was evicted) is no mismatch: it is still true.
    """

    def __init__(
        self,
        core: TwoTier,
        namer: Namer,
        policies: Mapping[Kind, Policy],
        clock: Clock,
        batch_size: int = 100,
    ) -> None:
        """L2 is asked for `batch_size` entries at once."""
        self.checks = Checks()
        self._core = core
        self._namer = namer
        self._policies = policies
        self._clock = clock
        self._batch_size = batch_size
        self._place = 0  # where the next sample begins

    async def __call__(self, limit: int = 0) -> Coherency:
        """Looks at all entries of L1, or at a sample of `limit`: those after the last sample."""
        began = self._clock.monotonic()
        keys = self._keys(limit)
        compared = absent = 0
        differing: dict[str, Difference] = {}
        note, failed = "", False
        for start in range(0, len(keys), self._batch_size):
            try:
                found = await self._core.examiner.reconcile(
                    [key for key in keys[start : start + self._batch_size] if self._shared(key)]
                )
            except TierError as error:
                note, failed = f"L2 can't be read: {error}", True
                break
            compared += found.compared
            absent += found.missing
            differing |= found.differing
            await asyncio.sleep(0)  # let others run: an L2 may answer without waiting
        if not (compared or note):
            note = "nothing to compare: L1 serves no entry that L2 may hold"
        took_s = self._clock.monotonic() - began
        at = self._clock.wall()
        self.checks = self.checks.after(compared, len(differing), at=at, took_s=took_s)
        return Coherency(
            coherent=not (differing or failed),
            l1_l2_consistent=not differing,
            stale_entries=len(differing),
            mismatched_keys=tuple(differing)[:_LISTED],
            checked_keys=compared,
            absent=absent,
            differences=dict(Counter(differing.values())),
            timestamp=at,
            took_ms=took_s * 1000,
            note=note,
        )

    def _keys(self, limit: int) -> list[str]:
        """The names to compare; a sample goes round all of them in turn."""
        keys = list(self._core.l1.entries)  # at once: other threads change it
        if not limit or limit >= len(keys):
            return keys
        start = self._place % len(keys)
        self._place = start + limit
        return [*keys[start : start + limit], *keys[: max(0, start + limit - len(keys))]]

    def _shared(self, key: str) -> bool:
        return self._policies[self._namer.kind_of(key)].l2
