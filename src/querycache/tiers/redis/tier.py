"""The shared L2: entries, counters and leases on a Redis or Valkey server, or on a cluster.

What a name is on the server says `names`, what is done there in one step says `scripts`. A guard
is the version of the entry's slot, read together with the entry: it moves with every told change
of a name of that slot, of which there are 16,384, also on a single server.
"""

from __future__ import annotations

import asyncio
import math
import os
import secrets
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from functools import wraps
from typing import Final, TypeVar, cast

import msgspec

from querycache.clock import Clock
from querycache.errors import TierError
from querycache.ports.tiers import L2Info, Listing, Pool, Read, Write
from querycache.tiers.redis.asking import Asker, fresh
from querycache.tiers.redis.batch import Batch
from querycache.tiers.redis.inspection import Inspection
from querycache.tiers.redis.link import RefusedError, Request
from querycache.tiers.redis.loops import Loops, OpenLink
from querycache.tiers.redis.names import Names, slot_of, to_wire
from querycache.tiers.redis.posts import Posts
from querycache.tiers.redis.reading import Reader
from querycache.tiers.redis.scripts import (
    BUMP,
    RELEASE,
    REMOVE,
    RENEW,
    STORE,
    Call,
    Script,
    Word,
    pack,
)
from querycache.tiers.redis.tracking import RedisBackplane
from querycache.values import Stamp

LARGEST: Final = 512 * 1024 * 1024
"""Bytes of a value: the server's own limit, as it is shipped."""


Method = TypeVar("Method", bound=Callable[..., Awaitable[object]])


def _guarded(method: Method) -> Method:
    """A method of the tier that raises `TierError` and nothing else."""

    @wraps(method)
    async def guarded(self: RedisTier, /, *args: object, **kwargs: object) -> object:
        try:
            return await method(self, *args, **kwargs)
        except TierError as error:
            self.note(error)
            raise
        except Exception as error:
            raise self.strange(error) from error

    return cast("Method", guarded)


class RedisTier:
    """L2 over the links that `open_link` makes.

    Attributes:
        backplane: Tells this process what the others changed.
    """

    name = "redis"

    def __init__(
        self,
        open_link: OpenLink,
        *,
        prefix: str,
        clock: Clock,
        clustered: bool = False,
        max_bytes: int = LARGEST,
        where: str = "?",
    ) -> None:
        """Connects to nothing yet. `clustered`: the servers hold each a share of the slots.
        `max_bytes` bounds a value. `where` is for messages, until an address is known.
        """
        self._names = Names(prefix)
        self._clock = clock
        self._clustered = clustered
        self._max_bytes = min(max_bytes, LARGEST)
        self.backplane = RedisBackplane(self._names, clock)
        self._loops = Loops(open_link, self._names, self.backplane, clustered=clustered)
        self._asker = Asker(self._loops, where)
        self._returns: set[asyncio.Task[None]] = set()  # of leases
        self._reader = Reader(self._asker, self._names, clustered=clustered)
        self._posts = Posts(self._asker, self._names)
        _OPEN.add(self)

    # --- entries -------------------------------------------------------------------------------

    async def read(self, keys: Sequence[str], *, fenced: bool = True) -> list[Read]:
        try:
            if len(keys) == 1:
                return [await self._reader.one(to_wire(keys[0]), fenced=fenced)]
            return await self._reader.many([to_wire(key) for key in keys], fenced=fenced)
        except TierError as error:
            self.note(error)
            raise
        except Exception as error:
            raise self.strange(error) from error

    def witnessed(self, key: str) -> int | None:
        try:
            return self._reader.witnessed.get(slot_of(to_wire(key)))
        except UnicodeEncodeError:
            return None

    @_guarded
    async def write(self, writes: Sequence[Write]) -> list[bool]:
        now = self._clock.wall()
        batch = Batch()
        asked = [self._storing(write, now, batch) for write in writes]
        replies = iter(await self._asker.ask([one for one in asked if one is not None]))
        done = [True if one is None else next(replies) in _STORED for one in asked]
        for one, stored in zip(asked, done, strict=True):
            if stored and isinstance(one, Call):
                self._moved(one)
        return done

    @_guarded
    async def remove(self, keys: Sequence[str]) -> int:
        calls = [self._telling(REMOVE, name) for name in _texts(keys)]
        held = await self._asker.ask(calls)
        for call in calls:
            self._moved(call)
        return sum(cast("list[int]", held))

    @_guarded
    async def purge(self, prefix: str) -> int:
        return await self._inspection().purge(prefix)

    async def scan(self, prefix: str = "") -> AsyncIterator[Listing]:
        try:
            async for listing in self._inspection().listed(prefix):
                yield listing
        except TierError as error:
            self.note(error)
            raise
        except Exception as error:
            raise self.strange(error) from error

    async def sweep(self, limit: int = 1000) -> int:
        """Nothing to do: the server deletes what has expired."""
        del limit
        return 0

    # --- counters ------------------------------------------------------------------------------

    @_guarded
    async def stamps(self, tags: Sequence[str]) -> dict[str, Stamp]:
        counters = {tag: self._names.counter(tag) for tag in tags}
        known = await self._reader.numbers(list(counters.values()))
        return {tag: Stamp(known[name], 0) for tag, name in counters.items()}

    @_guarded
    async def bump(self, tags: Sequence[str]) -> dict[str, Stamp]:
        numbers = {tag: fresh() for tag in tags}
        calls = [self._bumping(self._names.counter(tag), at) for tag, at in numbers.items()]
        await self._asker.ask(calls)
        return {tag: Stamp(at, 0) for tag, at in numbers.items()}

    # --- leases --------------------------------------------------------------------------------

    @_guarded
    async def lease(self, key: str, seconds: float) -> str | None:
        name, token = self._names.lease(key), secrets.token_hex(8)
        words = (b"SET", name, token, b"NX", b"PX", _milliseconds(seconds))
        try:
            (reply,) = await self._asker.ask([Request(name, pack(words))])
        except asyncio.CancelledError:  # it may be granted to nobody
            task = asyncio.get_running_loop().create_task(self._give_back(name, token))
            self._returns.add(task)
            task.add_done_callback(self._returns.discard)
            raise
        return token if reply == b"OK" else None

    async def _give_back(self, name: bytes, token: str) -> None:
        with suppress(TierError):  # it runs out by itself
            await self._asker.ask([Call(RELEASE, (name,), (token.encode(),))])

    @_guarded
    async def renew(self, key: str, token: str, seconds: float) -> bool:
        name = self._names.lease(key)
        call = Call(RENEW, (name,), (token.encode(), _milliseconds(seconds)))
        return await self._asker.ask([call]) == [1]

    @_guarded
    async def release(self, key: str, token: str) -> None:
        await self._asker.ask([Call(RELEASE, (self._names.lease(key),), (token.encode(),))])

    # --- secrets -------------------------------------------------------------------------------

    @_guarded
    async def secret(self, name: str, proposed: bytes | None = None) -> bytes | None:
        at = self._names.secret(name)
        (found,) = await self._asker.ask([Request(at, pack((b"GET", at)))])
        if proposed is not None and not isinstance(found, bytes):
            words = pack((b"SET", at, proposed, b"NX")) + pack((b"GET", at))
            _, found = await self._asker.ask([Request(at, words, replies=2)])
        return self._asker.value(found)

    @_guarded
    async def drop_secret(self, name: str) -> bool:
        at = self._names.secret(name)
        return await self._asker.ask([Request(at, pack((b"DEL", at)))]) == [1]

    # --- the whole -----------------------------------------------------------------------------

    @_guarded
    async def post(self, name: str, data: bytes, seconds: float) -> None:
        await self._posts.put(name, data, seconds)

    @_guarded
    async def posts(self) -> dict[str, bytes]:
        return await self._posts.all()

    async def info(self) -> L2Info:
        try:
            info = await self._info()
        except TierError as error:
            why = "; ".join(filter(None, (str(error), error.remedy)))
            info = L2Info(self.name, connected=False, where=self._asker.where(), error=why)
        return msgspec.structs.replace(info, pool=self._pool(), lag_ms=self.backplane.lag_ms)

    @_guarded
    async def close(self) -> None:
        """Closes the connections of all loops. Nothing can be asked afterwards."""
        _OPEN.discard(self)
        await self._loops.close()

    def after_fork(self) -> None:
        """Makes the tier in a child independent of its parent's connections."""
        self._loops.after_fork()
        self.backplane.after_fork()

    # --- writing -------------------------------------------------------------------------------

    def _storing(self, write: Write, now: float, batch: Batch) -> Request | Call | None:
        """A write as it is sent; None for one that is neither told nor still alive."""
        if len(write.data) > self._max_bytes:
            raise TierError(
                f"{len(write.data)} bytes are too many for Redis: {write.key}",
                remedy=f"store no more than {self._max_bytes} bytes under one name",
            )
        name = to_wire(write.key)
        life = max(0, math.ceil((write.expires_at - now) * 1000))
        if write.tell or write.guard is not None:
            guard = b"" if write.guard is None else batch.guard(name, write.guard)
            call = self._telling(STORE, name, write.data if life else b"", life, guard)
            batch.moved(name, write.guard, cast("int", call.arguments[0]))
            return call
        words = (b"SET", name, write.data, b"PX", life)
        return Request(name, pack(words)) if life else None

    def _telling(self, script: Script, name: bytes, *words: Word) -> Call:
        """A change that the others hear of."""
        names, source, slot = self._names, self.backplane.source, slot_of(name)
        keys = (name, names.version(slot), names.shadow(slot, source, name))
        message = b" %b k %b" % (source, name)
        return self._published(script, keys, (fresh(), names.channel, message, *words))

    def _bumping(self, counter: bytes, number: int) -> Call:
        message = b" %b t %b" % (self.backplane.source, counter)
        return self._published(BUMP, (counter,), (number, self._names.channel, message))

    def _published(self, script: Script, keys: tuple[bytes, ...], words: tuple[Word, ...]) -> Call:
        return Call(script, keys if self._clustered else (*keys, self._names.sequence), words)

    def _moved(self, call: Call) -> None:
        """Remembers the version that a told change of ours made."""
        self._reader.witnessed[slot_of(call.keys[0])] = cast("int", call.arguments[0])

    # --- errors --------------------------------------------------------------------------------

    def note(self, error: TierError) -> None:
        """What the core keeps after a failure, nobody may have told about."""
        if not isinstance(error, RefusedError):
            self.backplane.failed()

    def strange(self, error: Exception) -> TierError:
        """What a parser or a closed loop raised, as an error of the tier."""
        self.backplane.failed()
        return TierError(f"Redis at {self._asker.where()}: {type(error).__name__}: {error}")

    # --- parts ---------------------------------------------------------------------------------

    def _inspection(self) -> Inspection:
        return Inspection(self._asker.link(), self._names, self._clock, self._clustered)

    @_guarded
    async def _info(self) -> L2Info:
        return await self._inspection().info()

    def _pool(self) -> Pool:
        pools = [link.pool() for link in self._loops.links()]
        return Pool(
            sum(pool.created for pool in pools),
            sum(pool.available for pool in pools),
            sum(pool.in_use for pool in pools),
            sum(pool.most for pool in pools),
        )


_STORED: Final = (1, b"OK")


def _texts(keys: Sequence[str]) -> Iterator[bytes]:
    """Their names on the server, which holds nothing under what is no text."""
    for key in keys:
        with suppress(UnicodeEncodeError):
            yield to_wire(key)


def _milliseconds(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))


def _after_fork() -> None:
    for tier in list(_OPEN):
        tier.after_fork()


_OPEN: weakref.WeakSet[RedisTier] = weakref.WeakSet()
os.register_at_fork(after_in_child=_after_fork)
