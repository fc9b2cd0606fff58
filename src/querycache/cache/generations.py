"""Counters: invalidation in O(1), without a scan.

An entry keeps the stamps of its tags as they stood at the start of its load, and is valid while
none has moved. This module is the process's view of the counters: kept coherent by the backplane's
`drain`, filled from L2 where a counter is not known yet. `world` moves with every change of the
view, so that an entry which was checked under the present world needs no second look.

A counter is put into the view by whoever comes later, the drain or the fetch: the drain always
overwrites, a fetch only fills a gap, and a fetch that began before the view lost something (the
channel was lost, the view grew too large, a counter moved to a stamp that only L2 knows) fills
nothing. So it never goes back to an older stamp.

While nobody tells this process anything (it is deaf: the server is gone), the view stays as it was
last known, a counter that L2 can't be asked for gets a stamp that no counter ever had, and what is
put into L1 lives for `DEAF_LIFE_S` at most. When the channel is back, L1 and the view begin anew.

What L2 could not be told (it was down) is owed: masked here at once, and paid by `settle`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from threading import RLock

from querycache.errors import TierError
from querycache.ports.tiers import L2, Backplane, Changes
from querycache.values import Kind, Stamp

Stamps = tuple[tuple[str, Stamp], ...]

EVERYTHING = tuple(f"kind:{kind}" for kind in Kind)
"""Every entry has the tag of its kind: these."""

DEAF_LIFE_S = 2.0
"""The longest life in L1 of what is put there while nobody tells what is no longer true."""

_KNOWN_LIMIT = 100_000
_OWED_LIMIT = 10_000
_ATTEMPTS = 3
_BATCH = 100
_BOUND_LIMIT = 10_000
_NEVER = (1 << 64) - 1  # no counter ever gets so far


class Generations:
    """The counters as this process knows them, and the way to move them.

    Attributes:
        world: Moves with every change of the view.
        seen: The backplane's epoch up to which the view is complete.
        bypass: L1 must not be served from.
        deaf: Nobody tells this process anything.
        l1_life: The longest life in L1 of what is put there now, in seconds.
        owed_keys: Masked names, of which L2 could not be told.
        owed_tags: The same of counters.
        dirty: The names whose newest value waits in this process for its way to L2.
    """

    __slots__ = (
        "_backplane",
        "_bound",
        "_known",
        "_l2",
        "_lock",
        "_losses",
        "_on_change",
        "_stood",
        "bypass",
        "deaf",
        "dirty",
        "l1_life",
        "owed_keys",
        "owed_tags",
        "owing",
        "seen",
        "world",
    )

    def __init__(self, l2: L2, backplane: Backplane, on_change: Callable[[Changes], None]) -> None:
        """`on_change` is told of every drain that found something, before anyone reads on."""
        self.world = 0
        self.seen = -1
        self.bypass = False
        self.deaf = False
        self.l1_life = float("inf")
        self.dirty: Mapping[str, object] = {}
        self.owing = False
        self.owed_keys: set[str] = set()
        self.owed_tags: set[str] = set()
        self._l2 = l2
        self._backplane = backplane
        self._on_change = on_change
        self._known: dict[str, Stamp] = {}
        self._bound: dict[tuple[str, ...], Stamps] = {}
        self._losses = 0
        self._stood: tuple[int, Stamps] = (-1, ())  # what stood last, and in which world
        self._lock = RLock()  # who is told of a drain may owe

    def catch_up(self) -> bool:
        """Applies what other processes told; False while L1 must not be served from."""
        with self._lock:
            if self._backplane.epoch[0] == self.seen:
                return True
            changes = self._backplane.drain()
            gone = changes.lost and not changes.deaf
            if gone or changes.bypass or len(self._known) > _KNOWN_LIMIT:
                self._forget()
            self.deaf = changes.deaf
            self.l1_life = DEAF_LIFE_S if changes.deaf else float("inf")
            # What is owed stays masked, anew: L2 has not heard of it yet.
            self._newest(
                {t: _nowhere() if t in self.owed_tags else at for t, at in changes.tags.items()}
            )
            if changes.tags:
                self._moved()
            if changes.lost or changes.tags or changes.keys:
                self._on_change(changes)
            self.seen, self.bypass = changes.seen, changes.bypass
            return not changes.bypass

    async def take(self, tags: tuple[str, ...]) -> Stamps:
        """The present stamps of `tags`. Raises `TierError` where L2 must be asked and fails."""
        bound = self._bound.get(tags)
        if bound is not None:
            return bound
        await self.learn(tags)
        world = self.world
        stamps = tuple((tag, self._known[tag]) for tag in tags if tag in self._known)
        if len(stamps) < len(tags):
            raise TierError("the view of the counters was emptied while they were read")
        with self._lock:
            if world == self.world:
                if len(self._bound) >= _BOUND_LIMIT:
                    self._bound.clear()
                self._bound[tags] = stamps
        return stamps

    async def learn(self, tags: Sequence[str]) -> None:
        """Brings counters that are not known yet into the view."""
        missing = [tag for tag in tags if tag not in self._known]
        if not missing:
            return
        if len(self._known) > _KNOWN_LIMIT:
            with self._lock:
                self._forget()
            missing = list(tags)
        for _ in range(_ATTEMPTS):
            losses = self._losses
            found = await self._asked(missing)
            with self._lock:
                if losses == self._losses:
                    for tag, stamp in found.items():
                        self._known.setdefault(tag, stamp)
                    return

    async def _asked(self, tags: Sequence[str]) -> Mapping[str, Stamp]:
        try:
            return await self._l2.stamps(tags)
        except TierError:
            self.catch_up()
            if not self.deaf:
                raise
            return {tag: _nowhere() for tag in tags}

    def now(self, tag: str) -> Stamp | None:
        """The counter's present stamp, if it is known."""
        return self._known.get(tag)

    def stand(self, stamps: Stamps) -> bool:
        """Whether none has moved; an unknown counter counts as moved."""
        world = self.world
        stood_in, stood = self._stood
        if stood is stamps and stood_in == world:
            return True
        known = self._known
        for tag, stamp in stamps:
            if known.get(tag) != stamp:
                return False
        self._stood = (world, stamps)
        return True

    def outdated(self, stamps: Stamps) -> bool:
        """Whether one is known to have moved."""
        known = self._known
        return any(known.get(tag, stamp) != stamp for tag, stamp in stamps)

    def moved(self, stamps: Stamps) -> str:
        """The first tag that has moved, or ""."""
        if self.stand(stamps):
            return ""
        known = self._known
        return next((tag for tag, stamp in stamps if known.get(tag) != stamp), "")

    async def bump(self, tags: Sequence[str]) -> bool:
        """Moves counters; from its return on nothing that depends on them is served here.

        False where L2 could not be told: then they are masked here, and owed. So they are where
        the caller was cancelled, and L2 may have been told or not.
        """
        stamps: Mapping[str, Stamp | None] = {}
        try:
            stamps = await self._bumped(tags)
        except TierError:
            return False
        else:
            return True
        finally:
            if not stamps:
                stamps = {tag: _nowhere() for tag in tags}
                self.owing = True
                self.owed_tags.update(tags)
            with self._lock:
                self._newest(stamps)
                self._moved()
            self._on_change(Changes(tags=stamps))

    def owe(self, keys: Iterable[str], *, failed: bool = True) -> None:
        """Masks keys of which L2 could not be told, because it `failed`, or was not told yet.
        Beyond a bound everything is owed instead, by the counters of the kinds.
        """
        self.owing = self.owing or failed
        self.owed_keys.update(keys)
        if len(self.owed_keys) > _OWED_LIMIT:
            self.owed_keys.clear()
            self.owed_tags.update(EVERYTHING)
            with self._lock:
                self._known |= {tag: _nowhere() for tag in EVERYTHING}
                self._moved()

    def told(self, key: str) -> bool:
        """Whether L2 has heard of the newest value of `key` that this process knows."""
        return key not in self.owed_keys and key not in self.dirty

    async def settle(self, spare: Container[str] = ()) -> bool:
        """Pays what is owed, if L2 is back, but for the keys to `spare` and those whose newest
        value is on its way; True when nothing is owed any more.
        """
        if not (self.owed_keys or self.owed_tags):
            self.owing = False
            return True
        owed = list(self.owed_keys)  # at once: other threads change it
        keys = [key for key in owed if key not in spare and key not in self.dirty]
        tags = list(self.owed_tags)
        try:
            if tags:
                stamps = await self._bumped(tags)
                with self._lock:
                    self._newest(stamps)
                    self._moved()
                self.owed_tags.difference_update(tags)
            for start in range(0, len(keys), _BATCH):
                batch = keys[start : start + _BATCH]
                await self._l2.remove(batch)
                self.owed_keys.difference_update(batch)
        except TierError:
            return False
        self.owing = self.owing and bool(self.owed_keys or self.owed_tags)
        return not (self.owed_keys or self.owed_tags)

    async def _bumped(self, tags: Sequence[str]) -> Mapping[str, Stamp | None]:
        """The new stamps; None where somebody may have moved the counters again meanwhile, which
        the answer would hide.
        """
        losses = self._losses
        stamps = await self._l2.bump(tags)
        return stamps if losses == self._losses else dict.fromkeys(tags)

    def _newest(self, stamps: Mapping[str, Stamp | None]) -> None:
        for tag, stamp in stamps.items():
            known = self._known.get(tag)
            if stamp is None:
                self._losses += 1
                self._known.pop(tag, None)
            elif known is None or known.epoch != stamp.epoch or known.number < stamp.number:
                self._known[tag] = stamp

    def _forget(self) -> None:
        """Empties the view, but for the masks of what is owed."""
        self._losses += 1
        self._known.clear()
        self._known.update((tag, _nowhere()) for tag in self.owed_tags)
        self._moved()

    def _moved(self) -> None:
        self.world += 1
        self._bound.clear()


def is_nowhere(stamps: Stamps) -> bool:
    """Whether one of them is a stamp that no counter ever had, so that nothing under it is ever
    valid in another process.
    """
    return any(stamp.number == _NEVER for _, stamp in stamps)


def _nowhere() -> Stamp:
    """A stamp that no counter ever had."""
    return Stamp(secrets.randbits(63), _NEVER)
