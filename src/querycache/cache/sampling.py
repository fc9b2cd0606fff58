"""How long a hit in L1 takes, by a sample: the hit path itself reads no clock for that."""

from __future__ import annotations

from contextlib import suppress

from querycache.cache.two_tier import TwoTier
from querycache.clock import Clock
from querycache.errors import UnreadableError
from querycache.values import Kind

_EACH = 8
"""Look-ups of a kind in a turn."""


class Sampling:
    """Times what a hit does with entries that are there: the look-up, the check of its counters,
    the value. Counts no hit, and no policy hears of it.
    """

    def __init__(self, core: TwoTier, clock: Clock) -> None:
        self._core = core
        self._now = clock.monotonic
        self._names: dict[Kind, list[str]] = {kind: [] for kind in Kind}
        self._hits = dict.fromkeys(Kind, 0)

    def turn(self) -> None:
        """Samples the kinds that had hits since the last turn."""
        for kind, tally in self._core.tallies.items():
            if tally.l1_hits != self._hits[kind]:
                self._hits[kind] = tally.l1_hits
                self._sample(kind)

    def _sample(self, kind: Kind) -> None:
        """Looks up the last names of a kind, or those that were found before."""
        core, tally = self._core, self._core.tallies[kind]
        names = dict.fromkeys([*self._names[kind], *core.past.recent[kind].copy()])
        held = [name for name in names if name in core.l1.entries][-_EACH:]
        self._names[kind] = held
        for name in held:
            began = self._now()
            entry = core.l1.entries.get(name)
            if entry is not None and core.generations.stand(entry.tags):
                with suppress(UnreadableError):  # a type that only its readers know
                    core.value(entry)
                    tally.l1.observe(self._now() - began)
