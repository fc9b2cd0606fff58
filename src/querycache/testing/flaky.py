"""An L2 that fails as it is told to, and the backplane that goes with it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar, overload

from msgspec.structs import replace

from querycache.clock import Clock
from querycache.ports.tiers import L2, Backplane, Changes, L2Info, Listing, Read, Write
from querycache.tiers.redis.link import DeadlineError, RefusedError, UnreachableError
from querycache.values import Stamp

Answer = TypeVar("Answer")

_TURN_BITS = 32


class FlakyTier:
    """An L2 around another, healthy until told otherwise. What it is told holds for every
    operation that begins afterwards; several failures may be told at once.

    Attributes:
        down: It refuses connections: every operation fails at once.
        hanging: It accepts and never answers; who waits when that ends is served then.
        slow_s: Each operation takes that much longer, in seconds of the clock.
        fail_every: Of so many operations the last fails; 0: none.
        lose_replies: Operations are executed, and then fail: the reply got lost.
        refuse_writes: Writes are refused as by a server whose memory is full; reads, removes and
            counters go on.
        corrupt: What is read has one bit flipped.
        asked: How often each operation began, by its name.
        turns: How often it was cut off (down or hanging) or came back.
    """

    def __init__(self, inner: L2, *, clock: Clock) -> None:
        self.name = inner.name
        self.turns = 0
        self.slow_s = 0.0
        self.fail_every = 0
        self.lose_replies = False
        self.refuse_writes = False
        self.corrupt = False
        self.asked: Counter[str] = Counter()
        self._inner = inner
        self._clock = clock
        self._down = False
        self._answering = asyncio.Event()
        self._answering.set()

    @property
    def down(self) -> bool:
        return self._down

    @down.setter
    def down(self, down: bool) -> None:
        before, self._down = self.cut_off, down
        self.turns += before != self.cut_off

    @property
    def hanging(self) -> bool:
        return not self._answering.is_set()

    @hanging.setter
    def hanging(self, hanging: bool) -> None:
        before = self.cut_off
        if hanging:
            self._answering.clear()
        else:
            self._answering.set()
        self.turns += before != self.cut_off

    @property
    def cut_off(self) -> bool:
        """Whether nothing can come from it: it is down or hanging."""
        return self._down or self.hanging

    def heal(self) -> None:
        """Ends all failures."""
        self.down = self.hanging = self.lose_replies = self.refuse_writes = self.corrupt = False
        self.slow_s, self.fail_every = 0.0, 0

    async def read(self, keys: Sequence[str], *, fenced: bool = True) -> list[Read]:
        reads = await self._ask("read", lambda: self._inner.read(keys, fenced=fenced))
        return [Read(_flipped(read.data), read.guard) for read in reads] if self.corrupt else reads

    def witnessed(self, key: str) -> int | None:
        return self._inner.witnessed(key)

    async def write(self, writes: Sequence[Write]) -> list[bool]:
        return await self._ask("write", lambda: self._write(writes))

    async def remove(self, keys: Sequence[str]) -> int:
        return await self._ask("remove", lambda: self._inner.remove(keys))

    async def stamps(self, tags: Sequence[str]) -> dict[str, Stamp]:
        return await self._ask("stamps", lambda: self._inner.stamps(tags))

    async def bump(self, tags: Sequence[str]) -> dict[str, Stamp]:
        return await self._ask("bump", lambda: self._inner.bump(tags))

    async def lease(self, key: str, seconds: float) -> str | None:
        return await self._ask("lease", lambda: self._inner.lease(key, seconds))

    async def renew(self, key: str, token: str, seconds: float) -> bool:
        return await self._ask("renew", lambda: self._inner.renew(key, token, seconds))

    async def release(self, key: str, token: str) -> None:
        await self._ask("release", lambda: self._inner.release(key, token))

    async def secret(self, name: str, proposed: bytes | None = None) -> bytes | None:
        return await self._ask("secret", lambda: self._inner.secret(name, proposed))

    async def drop_secret(self, name: str) -> bool:
        return await self._ask("drop_secret", lambda: self._inner.drop_secret(name))

    async def sweep(self, limit: int = 1000) -> int:
        return await self._ask("sweep", lambda: self._inner.sweep(limit))

    async def purge(self, prefix: str) -> int:
        return await self._ask("purge", lambda: self._inner.purge(prefix))

    async def scan(self, prefix: str = "") -> AsyncIterator[Listing]:
        await self._ask("scan", self._nothing)
        rows = self._inner.scan(prefix)
        try:
            async for row in rows:
                yield row
        finally:
            if isinstance(rows, AsyncGenerator):
                await rows.aclose()

    async def post(self, name: str, data: bytes, seconds: float) -> None:
        await self._ask("post", lambda: self._inner.post(name, data, seconds))

    async def posts(self) -> dict[str, bytes]:
        return await self._ask("posts", self._inner.posts)

    async def info(self) -> L2Info:
        try:
            return await self._ask("info", self._inner.info)
        except (UnreachableError, DeadlineError) as error:
            return L2Info(self.name, connected=False, error=str(error))

    async def close(self) -> None:
        """Never fails: it is ours."""
        await self._inner.close()

    async def _ask(self, operation: str, work: Callable[[], Awaitable[Answer]]) -> Answer:
        self.asked[operation] += 1
        if self.slow_s:
            await self._clock.sleep(self.slow_s)
        await self._answering.wait()
        if self.down:
            raise UnreachableError(f"Connection refused: {self.name} is down, as told")
        if self.fail_every and self.asked.total() % self.fail_every == 0:
            raise UnreachableError(f"Connection reset by {self.name}, as told")
        answer = await work()
        if self.lose_replies:
            raise DeadlineError(f"the reply of {self.name} got lost, as told")
        return answer

    async def _write(self, writes: Sequence[Write]) -> list[bool]:
        if self.refuse_writes:
            raise RefusedError("OOM command not allowed when used memory > 'maxmemory'.")
        return await self._inner.write(writes)

    async def _nothing(self) -> None:
        """Nothing is executed."""


class FlakyBackplane:
    """Hears what another backplane hears while the tier can be reached. When it is cut off and
    when it is back, everything was lost; in between this process is deaf.
    """

    def __init__(self, inner: Backplane, tier: FlakyTier) -> None:
        self.epoch: Sequence[int] = _Epoch(inner, tier)
        self.hears_until = inner.hears_until
        self._inner = inner
        self._tier = tier
        self._turns = tier.turns

    def drain(self) -> Changes:
        seen, turns = self.epoch[0], self._tier.turns
        lost, self._turns = turns != self._turns, turns
        changes = self._inner.drain()  # what is not heard is gone
        if lost or self._tier.cut_off:
            return Changes(seen=seen, lost=lost, deaf=self._tier.cut_off)
        return replace(changes, seen=seen if changes.seen >= 0 else changes.seen)

    def close(self) -> None:
        self._inner.close()


class _Epoch(Sequence[int]):
    """The epoch of a backplane, which moves with the tier's failures too."""

    def __init__(self, inner: Backplane, tier: FlakyTier) -> None:
        self._inner = inner
        self._tier = tier

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[int]: ...
    def __getitem__(self, index: int | slice) -> int | Sequence[int]:
        whole = [(self._inner.epoch[0] << _TURN_BITS) + self._tier.turns]
        return whole[index]

    def __len__(self) -> int:
        return 1


def _flipped(data: bytes | None) -> bytes | None:
    """The same with a bit flipped in the middle."""
    if not data:
        return data
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
