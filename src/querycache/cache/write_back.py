"""Write-back: a write is answered when it waits in this process, and reaches L2 behind.

Design note. What waits is the newest value of its name, and the readers of this process see it
before L2's, whatever L1 has evicted. So that nothing older ever lands on something newer:

- A name's writes reach L2 one after the other: while one is under way, the next one waits.
- A flush asks L2 for the guards of its names, has one more answer come from the same servers (so
  that all news of changes before the guards are here), and applies those news, which takes what
  others changed off the queue. Then it writes under the guards: a change that comes after them
  refuses the write. A set that was acknowledged before somebody's delete is therefore never
  brought back by a flush after it; and an attempt that timed out can't land on the next one.
- What leaves the queue without having been written (expired, invalidated, refused, changed by
  others) leaves its name owed: L2 may hold something older still, which is masked here and
  removed.
- While the channel is lost nobody tells this process what to take off the queue. What waits goes
  to the recovery queue then, guarded by what was known of the name when it was set; and writes go
  through until the channel is back.

A crash loses what waits: at most `Limits.entries` entries and `Limits.bytes` bytes, none older
than `Limits.interval_s` and the time of a flush while L2 takes them. With a journal it loses
nothing: a write is answered when the journal has it. The next process to start adopts it and
writes each name's newest, if L2 holds what the dead process last knew of the name, or itself wrote
there before; else others have changed it, and the write is dropped.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from weakref import WeakSet

import msgspec

from querycache.cache.claims import Claims
from querycache.cache.generations import Generations, Stamps
from querycache.cache.parts import Parts
from querycache.cache.recovery import Recovery
from querycache.cache.waiting import Limits, Queue, Waiting
from querycache.errors import TierError
from querycache.events import NotStored, TierFailed
from querycache.ports.journal import Journal, Recorded
from querycache.ports.tiers import Write

_BATCH_BYTES = 4 * 1024 * 1024
_PAUSE_S = 0.05
_OTHERS_S = 1.0


class WriteBack:
    """The dirty queue and its way to L2.

    Attributes:
        queue: What waits.
        flushed: How many writes L2 took.
        dropped: How many left the queue without: expired, invalidated, changed by others.
        overflowed: How many found the queue full, and went through.
        trouble: Why the last flush failed; "" where it did not.
    """

    def __init__(
        self,
        parts: Parts,
        generations: Generations,
        claims: Claims,
        recovery: Recovery,
        limits: Limits,
        journal: Journal | None,
    ) -> None:
        self.queue = Queue(limits.entries, limits.bytes)
        self.flushed = self.dropped = self.overflowed = 0
        self.trouble = ""
        self._l1 = parts.l1
        self._l2 = parts.l2
        self._clock = parts.clock
        self._observer = parts.observer
        self._generations = generations
        self._claims = claims
        self._recovery = recovery
        self._limits = limits
        self._journal = journal
        self._batch = limits.batch  # smaller after a failure: one entry may be what is refused
        self._under_way: dict[str, Future[None]] = {}
        self._flusher: asyncio.Task[None] | None = None
        self._burst: asyncio.Task[None] | None = None
        generations.dirty = self.queue.items
        _OPEN.add(self)

    # --- in -----------------------------------------------------------------------------------

    def add(self, write: Write, stamps: Stamps) -> Waiting | None:
        """Has a write wait; None where it must go through."""
        generations = self._generations
        if generations.deaf or generations.bypass:
            return None
        if write.tell:
            guard = self._l2.witnessed(write.key) if write.guard is None else write.guard
            write = msgspec.structs.replace(write, guard=guard)
        item = self.queue.put(write, stamps, self._clock.monotonic())
        if item is None:
            self.overflowed += 1
            return None
        self._recovery.kept.drop(write.key)  # the journal keeps it until it has this one
        self._wake()
        return item

    async def record(self, items: Sequence[Waiting]) -> bool:
        """Returns once the journal has them; False where it could not take them."""
        if self._journal is None or not items:
            return True
        unknown = [item for item in items if item.write.tell and item.write.guard is None]
        try:
            if unknown:
                with suppress(TierError):
                    reads = await self._l2.read([item.key for item in unknown])
                    for item, read in zip(unknown, reads, strict=True):
                        item.write = msgspec.structs.replace(item.write, guard=read.guard)
            await self._journal.append([Recorded(item.number, item.write) for item in items])
        except TierError as error:
            self._observer.emit(TierFailed(items[0].key, "journal", "write", str(error)))
            return False
        for item in items:
            if item.key not in self.queue.items and item.key not in self._recovery.kept.items:
                self.done(item.key, item.number)  # it was settled before the journal had it
        return True

    def overtake(self, key: str) -> int:
        """Takes off what waits under a key, since something newer is on its way to L2. The number
        to call `done` with once L2 or the journal has that: a crash before loses nothing.
        """
        older = self.queue.drop(key), self._recovery.kept.drop(key)
        return max((item.number for item in older if item is not None), default=0)

    def done(self, key: str, number: int) -> None:
        """Has the journal forget what it holds of a key up to that number; 0: it holds nothing."""
        if self._journal is not None and number:
            self._journal.remove(key, number)

    # --- look ------------------------------------------------------------------------------------

    def usable(self, key: str) -> Waiting | None:
        """The write that waits under a key, if readers may see it. What has expired or was
        invalidated is given up.
        """
        item = self.queue.items.get(key)
        if item is not None and self._over(item):
            self._give_up(item)
            return None
        return item

    # --- out -------------------------------------------------------------------------------------

    def forget(self, key: str) -> bool:
        """Takes off what waits under a key, for good; whether something did."""
        item = self.queue.drop(key)
        if item is None:
            return False
        self.done(key, item.number)
        return True

    def changed_elsewhere(self, key: str) -> None:
        """Others changed a key: what waits is not the newest, or is; nobody knows."""
        item = self.queue.items.get(key)
        if item is not None and item.write.tell:
            self._give_up(item)

    def distrust(self) -> None:
        """The channel was lost: what waits may have been changed by others."""
        for item in list(self.queue.items.values()):
            if item.write.tell and self.queue.drop_if(item):
                self._recovery.keep(item.write, item.stamps)

    async def flush(self, until: float = float("inf")) -> int:
        """Writes what waits now; how many L2 took. Ends where L2 fails, and after the batch that
        is under way at `until` (monotonic).
        """
        last, flushed = self.queue.newest, 0
        while True:
            batch = self.queue.first(
                self._batch,
                _BATCH_BYTES,
                lambda item: item.number <= last and item.key not in self._under_way,
            )
            others = next(iter(list(self._under_way.values())), None)
            if batch:
                taken = await self._send(batch)
                if taken is None:
                    return flushed
                flushed += taken
            elif others is None:
                return flushed
            elif not (await asyncio.wait([asyncio.wrap_future(others)], timeout=_OTHERS_S))[0]:
                return flushed  # the loop that writes them stands still
            if self._clock.monotonic() >= until:
                return flushed

    async def close(self) -> int:
        """Writes what waits, for `Limits.drain_s` at most; how many are left behind. With a
        journal the next process writes those.
        """
        until = self._until()
        await self._end_tasks()
        await self.flush(until)
        while self.queue.items and self._clock.monotonic() < until:
            await self._clock.sleep(_PAUSE_S)
            await self.flush(until)
        left = list(self.queue.items)
        for key in left if self._journal is None else ():
            self._observer.emit(NotStored(key, "l2_down"))
        return len(left)

    # --- parts -----------------------------------------------------------------------------------

    async def _send(self, batch: list[Waiting]) -> int | None:
        """Writes a batch; how many L2 took, None where it failed."""
        ended: Future[None] = Future()
        under_way = self._under_way.setdefault  # another thread may flush as well
        batch = [item for item in batch if under_way(item.key, ended) is ended]
        if not batch:
            return 0
        try:
            taken = await self._write(batch)
        except TierError as error:
            self.trouble = str(error)
            self._batch = max(1, len(batch) // 2)
            self.queue.to_the_end(batch)
            self._observer.emit(TierFailed(batch[0].key, self._l2.name, "flush", str(error)))
            return None
        finally:
            for item in batch:
                self._under_way.pop(item.key, None)
            ended.set_result(None)
        self.trouble = ""
        self._batch = min(self._limits.batch, self._batch * 2)
        return taken

    async def _write(self, batch: Sequence[Waiting]) -> int:
        guards = await self._guards([item.key for item in batch if item.write.tell])
        sent: list[Waiting] = []
        for item in batch:
            if self._over(item):
                self._give_up(item)
            elif self.queue.holds(item):
                sent.append(item)
        if not sent:
            return 0
        stored = await self._l2.write(
            [msgspec.structs.replace(i.write, guard=guards.get(i.key)) for i in sent]
        )
        for item, done in zip(sent, stored, strict=True):
            if not done:
                self._give_up(item)
            elif self.queue.drop_if(item):
                self._generations.owed_keys.discard(item.key)
                self.done(item.key, item.number)
        self.flushed += sum(stored)
        return sum(stored)

    async def _guards(self, keys: Sequence[str]) -> dict[str, int]:
        """The guards of names; from then on the queue holds nothing that others had changed before
        the guards were taken.
        """
        if not keys:
            return {}
        reads = await self._l2.read(keys)
        await self._l2.read(keys, fenced=False)  # news of what came before the guards come first
        if not self._generations.catch_up():
            raise TierError("nobody knows what other processes changed")
        return {key: read.guard for key, read in zip(keys, reads, strict=True)}

    def _over(self, item: Waiting) -> bool:
        expired = item.write.expires_at <= self._clock.wall()
        return expired or self._generations.outdated(item.stamps)

    def _give_up(self, item: Waiting) -> None:
        """What waits is not to be written; what L2 holds under its name is older."""
        if not self.queue.drop_if(item):
            return
        self.dropped += 1
        if item.write.tell:
            self._generations.owe([item.key], failed=False)
            self._claims.void(item.key)
            self._l1.remove(item.key)
        self.done(item.key, item.number)

    # --- tasks -----------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Has what waits written soon: after the interval, or at once where it is a batch."""
        if _idle(self._flusher):
            self._flusher = asyncio.create_task(  # noqa: TID251 -- ends when nothing waits
                self._run(), name="write-back"
            )
        if len(self.queue) >= self._batch and not self.trouble and _idle(self._burst):
            self._burst = asyncio.create_task(  # noqa: TID251 -- ends when no batch is full
                self._hurry(), name="write-back batch"
            )

    async def _run(self) -> None:
        try:
            while self.queue.items:
                await self._clock.sleep(self._limits.interval_s)
                await self.flush()
            self.trouble = ""
        except asyncio.CancelledError:  # its loop ends
            await self.flush(self._until())
            raise

    async def _hurry(self) -> None:
        while len(self.queue) >= self._batch and not self.trouble:
            await self.flush()

    def _until(self) -> float:
        return self._clock.monotonic() + self._limits.drain_s

    async def _end_tasks(self) -> None:
        loop = asyncio.get_running_loop()
        mine = [
            task
            for task in (self._flusher, self._burst)
            if task is not None and not task.done() and task.get_loop() is loop
        ]
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)

    def after_fork(self) -> None:
        """Makes a child independent of what waits in its parent."""
        self.queue.begin_anew()
        self._recovery.kept.begin_anew()
        self._under_way.clear()
        self._flusher = self._burst = None


def _idle(task: asyncio.Task[None] | None) -> bool:
    """Whether a task has ended, or stands in a loop that does not run."""
    return task is None or task.done() or not task.get_loop().is_running()


def _after_fork() -> None:
    for back in list(_OPEN):
        back.after_fork()


_OPEN: WeakSet[WriteBack] = WeakSet()
os.register_at_fork(after_in_child=_after_fork)
