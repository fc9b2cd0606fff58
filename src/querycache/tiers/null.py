"""The tier that remembers nothing: the same shape, for caching in memory only or not at all."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence

from querycache.clock import Clock, SystemClock
from querycache.errors import TierError
from querycache.ports.tiers import L2Info, Listing, Read, Write
from querycache.values import Stamp

_REMEMBERED = 10_000
"""How many moves of names are remembered one by one; a guard older than that is refused."""


class NullTier:
    """Keeps no entries. Counters, guards and leases work within the process, so generations do.

    `write` says of each entry whether its guard held: what is refused must not go to L1 either.
    """

    name = "none"

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._epoch = secrets.randbits(63)
        self._version = 0
        self._forgotten = 0  # moves up to this version are no longer told apart
        self._moved: dict[str, int] = {}  # name or tag -> version of its last move, oldest first
        self._counters: dict[str, int] = {}
        self._leases: dict[str, tuple[str, float]] = {}  # token, deadline in monotonic s

    async def read(self, keys: Sequence[str], *, fenced: bool = True) -> list[Read]:
        del fenced
        return [Read(None, self._version) for _ in keys]

    def witnessed(self, key: str) -> int | None:
        del key

    async def write(self, writes: Sequence[Write]) -> list[bool]:
        return [self._accept(write) for write in writes]

    async def remove(self, keys: Sequence[str]) -> int:
        for key in keys:
            self._move(f"k{key}")
        return 0

    async def stamps(self, tags: Sequence[str]) -> dict[str, Stamp]:
        return {tag: Stamp(self._epoch, self._counters.get(tag, 0)) for tag in tags}

    async def bump(self, tags: Sequence[str]) -> dict[str, Stamp]:
        for tag in tags:
            self._counters[tag] = self._move(f"t{tag}")
        return await self.stamps(tags)

    async def lease(self, key: str, seconds: float) -> str | None:
        now = self._clock.monotonic()
        held = self._leases.get(key)
        if held is not None and held[1] > now:
            return None
        if len(self._leases) >= _REMEMBERED:
            self._leases = {k: kept for k, kept in self._leases.items() if kept[1] > now}
        token = secrets.token_hex(8)
        self._leases[key] = (token, now + seconds)
        return token

    async def renew(self, key: str, token: str, seconds: float) -> bool:
        now = self._clock.monotonic()
        held = self._leases.get(key)
        if held is None or held[0] != token or held[1] <= now:
            return False
        self._leases[key] = (token, now + seconds)
        return True

    async def release(self, key: str, token: str) -> None:
        held = self._leases.get(key)
        if held is not None and held[0] == token:
            del self._leases[key]

    async def secret(self, name: str, proposed: bytes | None = None) -> bytes | None:
        """Nothing is shared, so nothing need be agreed on."""
        del name
        return proposed

    async def drop_secret(self, name: str) -> bool:
        del name
        return False

    async def sweep(self, limit: int = 1000) -> int:
        del limit
        return 0

    async def purge(self, prefix: str) -> int:
        del prefix
        return 0

    async def scan(self, prefix: str = "") -> AsyncIterator[Listing]:
        del prefix
        for listing in ():
            yield listing

    async def post(self, name: str, data: bytes, seconds: float) -> None:
        """Nothing: there are no other processes."""
        del name, data, seconds

    async def posts(self) -> dict[str, bytes]:
        return {}

    async def info(self) -> L2Info:
        return L2Info(backend="none", connected=True, ping_ms=0.0, entries=0, bytes=0)

    async def close(self) -> None:
        """Nothing to close."""

    def _accept(self, write: Write) -> bool:
        guard = write.guard
        if guard is not None:
            names = (f"k{write.key}", *(f"t{tag}" for tag in write.tags))
            if guard < self._forgotten or any(self._moved.get(n, 0) > guard for n in names):
                return False
        if write.tell:
            self._move(f"k{write.key}")
        return True

    def _move(self, name: str) -> int:
        self._version += 1
        self._moved.pop(name, None)
        self._moved[name] = self._version
        if len(self._moved) > _REMEMBERED:
            oldest = next(iter(self._moved))
            self._forgotten = self._moved.pop(oldest)
        return self._version


class AbsentTier(NullTier):
    """Stands in for a shared tier that could not be opened, and says why.

    What others would have to hear of fails: it holds in this process, and they are not told.
    """

    def __init__(self, name: str, error: TierError, clock: Clock) -> None:
        super().__init__(clock)
        self.name = name
        self._error = f"{error} ({error.remedy})" if error.remedy else str(error)

    async def remove(self, keys: Sequence[str]) -> int:
        await super().remove(keys)
        raise TierError(self._error)

    async def bump(self, tags: Sequence[str]) -> dict[str, Stamp]:
        await super().bump(tags)
        raise TierError(self._error)

    async def drop_secret(self, name: str) -> bool:
        del name
        raise TierError(self._error)

    async def scan(self, prefix: str = "") -> AsyncIterator[Listing]:
        async for listing in super().scan(prefix):
            yield listing
        raise TierError(self._error)

    async def info(self) -> L2Info:
        return L2Info(self.name, connected=False, error=self._error)
