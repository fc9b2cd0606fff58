"""A shared tier in memory, with as many processes on it as a test wants."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from threading import Lock

from querycache.errors import TierError
from querycache.ports.tiers import Changes, L2Info, Listing, Read, Write
from querycache.testing.clock import FakeClock
from querycache.values import Stamp


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
        self.secrets: dict[str, bytes] = {}
        self.leased = 0
        self.posts: dict[str, tuple[bytes, float]] = {}

    def tell(self, source: int, what: str, name: str) -> None:
        self.log.append((source, what, name))
        self.epoch[0] = len(self.log)

    def take(self, key: str) -> bool:
        """Deletes an entry; whether it was alive."""
        row = self.entries.pop(key, None)
        return row is not None and row[1] > self.clock.wall()

    def lease(self, key: str, token: str, seconds: float) -> None:
        self.leases[key] = (token, self.clock.monotonic() + seconds)

    def leaseholder(self, key: str) -> str:
        """The token of the lease that runs; "" where none does."""
        token, until = self.leases.get(key, ("", 0.0))
        return token if until > self.clock.monotonic() else ""

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
        self._witnessed: dict[str, int] = {}

    async def read(self, keys: Sequence[str], *, fenced: bool = True) -> list[Read]:
        self.shared.check()
        guard, wall = len(self.shared.log), self.shared.clock.wall()
        found = [self.shared.entries.get(key) for key in keys]
        if fenced:
            self._witnessed |= dict.fromkeys(keys, guard)
        return [Read(row[0] if row and row[1] > wall else None, guard) for row in found]

    def witnessed(self, key: str) -> int | None:
        return self._witnessed.get(key)

    async def write(self, writes: Sequence[Write]) -> list[bool]:
        self.shared.check()
        done: list[bool] = []
        for write in writes:
            told = {("key", write.key), *(("tag", tag) for tag in write.tags)}
            moved = write.guard is not None and any(
                (what, name) in told for _, what, name in self.shared.log[write.guard :]
            )
            if not moved:
                self.shared.entries[write.key] = (write.data, write.expires_at)
                if write.tell:
                    self.shared.tell(self.source, "key", write.key)
                    self._witnessed[write.key] = len(self.shared.log)
            done.append(not moved)
        return done

    async def remove(self, keys: Sequence[str]) -> int:
        self.shared.check()
        for key in keys:
            self.shared.tell(self.source, "key", key)
            self._witnessed[key] = len(self.shared.log)
        return sum(self.shared.take(key) for key in keys)

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
        if self.shared.leaseholder(key):
            return None
        self.shared.leased += 1
        token = f"{self.source}-{self.shared.leased}"
        self.shared.lease(key, token, seconds)
        return token

    async def renew(self, key: str, token: str, seconds: float) -> bool:
        self.shared.check()
        if self.shared.leaseholder(key) != token:
            return False
        self.shared.lease(key, token, seconds)
        return True

    async def release(self, key: str, token: str) -> None:
        self.shared.check()
        if self.shared.leaseholder(key) == token:
            del self.shared.leases[key]

    async def secret(self, name: str, proposed: bytes | None = None) -> bytes | None:
        self.shared.check()
        if proposed is not None:
            return self.shared.secrets.setdefault(name, proposed)
        return self.shared.secrets.get(name)

    async def drop_secret(self, name: str) -> bool:
        self.shared.check()
        return self.shared.secrets.pop(name, None) is not None

    async def sweep(self, limit: int = 1000) -> int:
        self.shared.check()
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
        self.shared.check()
        wall = self.shared.clock.wall()
        for key, (data, expires_at) in sorted(self.shared.entries.items()):
            if key.startswith(prefix) and expires_at > wall:
                yield Listing(key, len(data), expires_at)

    async def post(self, name: str, data: bytes, seconds: float) -> None:
        self.shared.check()
        self.shared.posts.pop(name, None)
        if data:
            self.shared.posts[name] = (data, self.shared.clock.monotonic() + seconds)

    async def posts(self) -> dict[str, bytes]:
        self.shared.check()
        now = self.shared.clock.monotonic()
        return {name: data for name, (data, until) in self.shared.posts.items() if until > now}

    async def info(self) -> L2Info:
        try:
            self.shared.check()
        except TierError as error:
            return L2Info(self.name, connected=False, error=str(error))
        rows = self.shared.entries.values()
        held = sum(len(data) for data, _ in rows)
        return L2Info(self.name, connected=True, ping_ms=0.0, entries=len(rows), bytes=held)

    async def close(self) -> None:
        return


class MemoryBackplane:
    """What the other handles of a `SharedMemory` did.

    `cut` makes it hear nothing and not know it: the one failure that a backplane promises not to
    have, for trying what finds it out.
    """

    def __init__(self, shared: SharedMemory, source: int) -> None:
        self.epoch: Sequence[int] = shared.epoch
        self.hears_until: Sequence[float] = (float("inf"),)
        self.cut = False
        self._shared = shared
        self._source = source
        self._seen = len(shared.log)
        self._lock = Lock()

    def drain(self) -> Changes:
        with self._lock:
            rows = self._shared.log[self._seen :]
            self._seen += len(rows)
            news = [row for row in rows if row[0] != self._source or row[1] == "tag"]
            if self.cut:
                news = []
            return Changes(
                keys=tuple(name for _, what, name in news if what == "key"),
                tags={
                    name: Stamp(1, self._shared.counters[name])
                    for _, what, name in news
                    if what == "tag"
                },
                seen=self._seen,
            )

    def close(self) -> None:
        return
