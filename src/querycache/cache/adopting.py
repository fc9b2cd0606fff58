"""Replays the journals of dead processes: what they had acknowledged and not yet written."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from querycache.cache.generations import Generations
from querycache.cache.parts import Parts
from querycache.errors import TierError
from querycache.events import TierFailed
from querycache.ports.journal import Journal, Recorded
from querycache.ports.tiers import Read, Write

_BATCH = 100
_BATCH_BYTES = 4 * 1024 * 1024
_PAUSE_S = 60.0


class Adopter:
    """Looks for such journals at the start, and now and then.

    Attributes:
        adopted: How many of their writes reached L2.
        dropped: How many did not: expired, or others had changed the name, or nothing is known.
    """

    def __init__(
        self,
        parts: Parts,
        generations: Generations,
        journal: Journal | None,
        on_write: Callable[[str], None],
    ) -> None:
        """`on_write` is told of each name that L2 was given."""
        self.adopted = 0
        self.dropped = 0
        self._l2 = parts.l2
        self._clock = parts.clock
        self._observer = parts.observer
        self._generations = generations
        self._journal = journal
        self._on_write = on_write
        self._due = float("-inf")

    async def turn(self) -> None:
        """Replays what there is, if it is time to look again."""
        if self._journal is None or self._clock.monotonic() < self._due:
            return
        self._due = self._clock.monotonic() + _PAUSE_S
        try:
            while orphans := await self._journal.adopt():
                try:
                    await self._replay(orphans.records)
                except BaseException:
                    orphans.let_go()
                    raise
                orphans.done()
        except TierError as error:
            self._due = self._clock.monotonic()  # L2 is down: at the next turn
            self._observer.emit(TierFailed("", self._l2.name, "adopt", str(error)))

    async def _replay(self, records: Sequence[Recorded]) -> None:
        by_key: dict[str, list[Write]] = {}
        for record in records:
            by_key.setdefault(record.write.key, []).append(record.write)
        batch: list[Sequence[Write]] = []
        weight = 0
        for history in by_key.values():
            size = len(history[-1].data)
            if batch and (len(batch) == _BATCH or weight + size > _BATCH_BYTES):
                await self._replay_some(batch)
                batch, weight = [], 0
            batch.append(history)
            weight += size
        if batch:
            await self._replay_some(batch)

    async def _replay_some(self, histories: Sequence[Sequence[Write]]) -> None:
        """Each name's newest write, guarded; `histories` holds a name's writes, oldest first."""
        reads = await self._l2.read([history[-1].key for history in histories])
        writes: list[Write] = []
        doubtful: list[str] = []
        for history, read in zip(histories, reads, strict=True):
            newest = history[-1]
            if newest.key in self._generations.dirty:  # something newer waits here
                self.dropped += 1
            elif read.data != newest.data:
                known = self._guarded(history, read)
                if known is not None:
                    writes.append(known)
                elif newest.tell:
                    doubtful.append(newest.key)
        if doubtful:  # L2 may hold something older
            await self._l2.remove(doubtful)
            self.dropped += len(doubtful)
        stored = await self._l2.write(writes) if writes else []
        self.adopted += sum(stored)
        self.dropped += len(stored) - sum(stored)
        for key in [*doubtful, *(write.key for write in writes)]:
            self._on_write(key)

    def _guarded(self, history: Sequence[Write], read: Read) -> Write | None:
        """A name's newest write; None where it has expired, or nothing is known of the name."""
        newest, guard = history[-1], history[-1].guard
        if newest.expires_at <= self._clock.wall():
            return None
        if not newest.tell:
            return newest
        if any(read.data == older.data for older in history):
            guard = read.guard  # what its process wrote itself is there, and nothing since
        return None if guard is None else msgspec.structs.replace(newest, guard=guard)
