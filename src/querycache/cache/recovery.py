"""The recovery queue: writes that L2 failed to take, kept until it is back.

Design note. A failed write leaves L2 with a value that may be old, so its name is owed: masked in
this process, and later removed and told. Where the write itself can be kept, the removal waits for
it. A kept write is replayed under the guard that was known when it failed, only after the channel
is back and L1 was cleared (the process hears again what others change): compare-and-set, so it
never lands on anything newer. What the guard refuses, what would have expired, and what lost a
counter is not replayed: the name is then removed after all, since a delete is always safe. Names
that are addressed by content never differ: they are replayed as they are, and never owed.

What waits is bounded in entries and bytes, the newest of each name; past the bound a name is owed
without its write.
"""

from __future__ import annotations

from contextlib import suppress

from querycache.cache.generations import Generations, Stamps, is_nowhere
from querycache.cache.parts import Parts
from querycache.cache.waiting import Queue, Waiting
from querycache.errors import TierError
from querycache.ports.journal import Journal
from querycache.ports.tiers import Write

_ENTRIES = 10_000
_BYTES = 64 * 1024 * 1024
_BATCH = 100
_BATCH_BYTES = 4 * 1024 * 1024
_PATIENCE_S = 30.0
"""How long a replay waits for a channel: some servers have none."""


class Recovery:
    """Keeps and replays.

    Attributes:
        kept: What waits.
        recovered: How many writes were replayed.
        dropped: How many were given up: refused, expired, outdated, or past the bound.
        trouble: Why L2 failed to take a write; "" once it took another, or has been told all.
    """

    def __init__(self, parts: Parts, generations: Generations, journal: Journal | None) -> None:
        self.kept = Queue(_ENTRIES, _BYTES)
        self.recovered = 0
        self.dropped = 0
        self.trouble = ""
        self._batch = _BATCH  # smaller after a failure: one entry may be what is refused
        self._l2 = parts.l2
        self._clock = parts.clock
        self._generations = generations
        self._journal = journal

    @property
    def waiting(self) -> int:
        """How many writes wait to be replayed."""
        return len(self.kept)

    def keep(self, write: Write, stamps: Stamps) -> Waiting | None:
        """Keeps a write that L2 does not have; its name is masked until it has, or has nothing.
        None where it can't be kept.
        """
        if write.tell:
            self._generations.owe([write.key])
        known = not write.tell or write.guard is not None
        item = None
        if known and not is_nowhere(stamps):
            item = self.kept.put(write, stamps, self._clock.monotonic())
        if item is None:
            self.forget(write.key)
            self.dropped += 1
        return item

    def forget(self, key: str) -> None:
        """What is kept of a key is no longer the newest."""
        item = self.kept.drop(key)
        if item is not None:
            self._done(item)

    async def settle(self) -> bool:
        """Replays what is kept and pays what is owed, if L2 is back; True when nothing is owed any
        more.
        """
        if self.kept.items:
            self._generations.catch_up()
            with suppress(TierError):  # the next time
                await self._replay()
        settled = await self._generations.settle(spare=self.kept.items)
        if settled and not self.kept.items:
            self.trouble = ""
        return settled

    async def _replay(self) -> None:
        tried = self.kept.newest
        while batch := self.kept.first(
            self._batch, _BATCH_BYTES, lambda item: item.number <= tried and self._may(item)
        ):
            for item in batch:
                if self._over(item) and self.kept.drop_if(item):
                    self.dropped += 1
                    self._done(item)
            sent = [item for item in batch if self.kept.holds(item)]
            stored = await self._write(sent) if sent else []
            for item, done in zip(sent, stored, strict=True):
                if not self.kept.drop_if(item):
                    continue  # something newer is on its way
                self._done(item)
                if done:
                    self.recovered += 1
                    self._generations.owed_keys.discard(item.key)
                else:
                    self.dropped += 1

    async def _write(self, sent: list[Waiting]) -> list[bool]:
        try:
            stored = await self._l2.write([item.write for item in sent])
        except TierError:
            self._batch = max(1, len(sent) // 2)
            self.kept.to_the_end(sent)
            raise
        self._batch = min(_BATCH, self._batch * 2)
        return stored

    def _may(self, item: Waiting) -> bool:
        """Whether the channel is back; where none ever comes, the guard has to do."""
        if not self._generations.deaf:
            return True
        return self._clock.monotonic() - item.since >= _PATIENCE_S

    def _over(self, item: Waiting) -> bool:
        """Whether it would have expired, or was invalidated."""
        expired = item.write.expires_at <= self._clock.wall()
        return expired or self._generations.outdated(item.stamps)

    def _done(self, item: Waiting) -> None:
        if self._journal is not None:
            self._journal.remove(item.key, item.number)
