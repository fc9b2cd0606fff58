"""What makes entries go: a caller's delete or invalidation, and the news of other processes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from querycache.cache.claims import Claims
from querycache.cache.generations import Generations
from querycache.cache.loading import Answer
from querycache.cache.parts import Parts
from querycache.cache.past import Past
from querycache.cache.recovery import Recovery
from querycache.cache.single_flight import SingleFlight
from querycache.cache.write_back import WriteBack
from querycache.errors import TierError
from querycache.events import ChannelLost, Invalidated, TierFailed
from querycache.ports.tiers import Changes


class Invalidator:
    """Takes entries away wherever this process has them: flights, claims, L1, what waits for L2;
    and from L2.
    """

    def __init__(  # noqa: PLR0913, PLR0917 -- all places where an entry may be
        self,
        parts: Parts,
        generations: Generations,
        claims: Claims,
        recovery: Recovery,
        back: WriteBack,
        flights: SingleFlight[Answer[object]],
        past: Past,
    ) -> None:
        self._l1 = parts.l1
        self._l2 = parts.l2
        self._observer = parts.observer
        self._generations = generations
        self._claims = claims
        self._recovery = recovery
        self._back = back
        self._flights = flights
        self._past = past

    def names(self) -> list[str]:
        """What this process holds or will: in L1, on its way into a tier, being loaded."""
        held = [*list(self._l1.entries), *list(self._generations.dirty)]
        return list(dict.fromkeys([*held, *self._claims.keys(), *self._flights.keys()]))

    async def remove(self, keys: Sequence[str]) -> int:
        """Deletes from both tiers and tells; returns how many there were."""
        self._past.removed(keys)
        held = sum([self._forget(key) for key in keys])
        try:
            held = max(held, await self._l2.remove(keys))
        except TierError as error:
            self._generations.owe(keys)
            self._observer.emit(TierFailed(keys[0], self._l2.name, "remove", str(error)))
        except asyncio.CancelledError:  # L2 may have heard of it, or not
            self._generations.owe(keys)
            raise
        finally:
            for key in keys:  # what came back in between
                self._forget(key)
        return held

    async def invalidate(self, tags: Sequence[str]) -> bool:
        """Makes everything that depends on one of `tags` unreachable; False where other processes
        can't be told yet.
        """
        for tag in tags:
            self._observer.emit(Invalidated("", tag, "here"))
        return await self._generations.bump(tags)

    def hear(self, changes: Changes) -> None:
        """Applies the news."""
        if changes.lost:
            self._back.distrust()
            self._claims.void_all()
            self._l1.clear()
            self._flights.retire_all()
            self._observer.emit(ChannelLost("", "the connection, or a part of the news, was lost"))
        self._past.removed(changes.keys)
        for key in changes.keys:
            self._drop(key)
            self._back.changed_elsewhere(key)
            self._observer.emit(Invalidated(key, "", "elsewhere"))
        if changes.tags:
            self._flights.retire_tagged(changes.tags.keys())

    def leave_to_l2(self, key: str) -> None:
        """Has readers ask L2, which has just been given something else."""
        self._drop(key)

    def _forget(self, key: str) -> bool:
        there = self._drop(key)
        self._recovery.forget(key)
        return self._back.forget(key) or there

    def _drop(self, key: str) -> bool:
        self._flights.retire(key)
        self._claims.void(key)
        return self._l1.remove(key) is not None
