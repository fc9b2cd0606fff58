"""The test kit that users get too: a clock that only moves when told to, an observer that
remembers, and a shared tier in memory that can be made to fail.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Sequence

from querycache.errors import TierError
from querycache.events import Event
from querycache.ports.tiers import Changes, L2Info, Listing, Read, Write
from querycache.values import Stamp


class FakeClock:
    """Time that stands still until `advance`. `wall_now` may be set apart: a clock that jumps."""

    def __init__(self, now: float = 1000.0, wall: float = 1_700_000_000.0) -> None:
        self.now = now
        self.wall_now = wall
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.wall_now

    async def sleep(self, seconds: float, /) -> None:
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._order), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Moves both clocks; wakes the sleepers in order and lets everything run."""
        end = self.now + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, future = heapq.heappop(self._sleepers)
            self._move(due)
            if not future.done():
                future.set_result(None)
            await self.settle()
        self._move(end)
        await self.settle()

    @staticmethod
    async def settle(turns: int = 50) -> None:
        """Lets what is ready run."""
        for _ in range(turns):
            await asyncio.sleep(0)

    def _move(self, now: float) -> None:
        self.wall_now += now - self.now
        self.now = now


class RecordingObserver:
    """Remembers every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[Event]) -> list[Event]:
        """The events of one type, in order."""
        return [event for event in self.events if isinstance(event, kind)]


class SharedMemory:
    """What several `MemoryL2` handles share, as processes share a server. `down` makes every
    operation fail.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.down = False
        self.entries: dict[str, tuple[bytes, float]] = {}
        self.counters: dict[str, int] = {}
        self.log: list[tuple[int, str, str]] = []  # source, "key" or "tag", name
        self.epoch = [0]
        self.leases: dict[str, tuple[str, float]] = {}

    def tell(self, source: int, what: str, name: str) -> None:
        self.log.append((source, what, name))
        self.epoch[0] = len(self.log)

    def check(self) -> None:
        if self.down:
            raise TierError("the shared memory is down, as told")


class MemoryL2:
    """An L2 as one process sees the shared store; `backplane` is its other half."""

    name = "memory"
    _sources = itertools.count(1)

    def __init__(self, shared: SharedMemory) -> None:
        self.shared = shared
        self.source = next(self._sources)
        self.backplane = MemoryBackplane(shared, self.source)

    async def read(self, keys: Sequence[str], *, fenced: bool = True) -> list[Read]:
        del fenced
        self.shared.check()
        guard, wall = len(self.shared.log), self.shared.clock.wall()
        found = [self.shared.entries.get(key) for key in keys]
        return [Read(row[0] if row and row[1] > wall else None, guard) for row in found]

    def witnessed(self, key: str) -> int | None:
        del key

    async def write(self, writes: Sequence[Write]) -> list[bool]:
        self.shared.check()
        done: list[bool] = []
        for write in writes:
            names = {write.key, *write.tags}
            moved = write.guard is not None and any(
                name in names for _, _, name in self.shared.log[write.guard :]
            )
            if not moved:
                self.shared.entries[write.key] = (write.data, write.expires_at)
                if write.tell:
                    self.shared.tell(self.source, "key", write.key)
            done.append(not moved)
        return done

    async def remove(self, keys: Sequence[str]) -> int:
        self.shared.check()
        for key in keys:
            self.shared.tell(self.source, "key", key)
        return sum(self.shared.entries.pop(key, None) is not None for key in keys)

    async def stamps(self, tags: Sequence[str]) -> dict[str, Stamp]:
        self.shared.check()
        return {tag: Stamp(1, self.shared.counters.get(tag, 0)) for tag in tags}

    async def bump(self, tags: Sequence[str]) -> dict[str, Stamp]:
        self.shared.check()
        for tag in tags:
            self.shared.tell(self.source, "tag", tag)
            self.shared.counters[tag] = len(self.shared.log)
        return await self.stamps(tags)

    async def lease(self, key: str, seconds: float) -> str | None:
        self.shared.check()
        now = self.shared.clock.monotonic()
        if key in self.shared.leases and self.shared.leases[key][1] > now:
            return None
        token = f"{self.source}-{now}"
        self.shared.leases[key] = (token, now + seconds)
        return token

    async def renew(self, key: str, token: str, seconds: float) -> bool:
        self.shared.check()
        if self.shared.leases.get(key, ("", 0.0))[0] != token:
            return False
        self.shared.leases[key] = (token, self.shared.clock.monotonic() + seconds)
        return True

    async def release(self, key: str, token: str) -> None:
        self.shared.check()
        if self.shared.leases.get(key, ("", 0.0))[0] == token:
            del self.shared.leases[key]

    async def sweep(self, limit: int = 1000) -> int:
        wall = self.shared.clock.wall()
        dead = [key for key, row in self.shared.entries.items() if row[1] <= wall][:limit]
        for key in dead:
            del self.shared.entries[key]
        return len(dead)

    async def purge(self, prefix: str) -> int:
        self.shared.check()
        gone = [key for key in self.shared.entries if key.startswith(prefix)]
        for key in gone:
            del self.shared.entries[key]
        return len(gone)

    async def scan(self, prefix: str = "") -> AsyncIterator[Listing]:
        for key, (data, expires_at) in sorted(self.shared.entries.items()):
            if key.startswith(prefix):
                yield Listing(key, len(data), expires_at)

    async def info(self) -> L2Info:
        return L2Info("memory", connected=not self.shared.down, ping_ms=0.0)

    async def close(self) -> None:
        return


class MemoryBackplane:
    """What the other handles of a `SharedMemory` did."""

    def __init__(self, shared: SharedMemory, source: int) -> None:
        self.epoch: Sequence[int] = shared.epoch
        self._shared = shared
        self._source = source
        self._seen = len(shared.log)

    def drain(self) -> Changes:
        rows = self._shared.log[self._seen :]
        self._seen = len(self._shared.log)
        news = [row for row in rows if row[0] != self._source or row[1] == "tag"]
        return Changes(
            keys=[name for _, what, name in news if what == "key"],
            tags={
                name: Stamp(1, self._shared.counters[name])
                for _, what, name in news
                if what == "tag"
            },
            seen=self._seen,
        )

    def close(self) -> None:
        return
