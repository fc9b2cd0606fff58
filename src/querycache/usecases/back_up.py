"""Back up: what the shared tier holds and would serve, in one file, a kind at a time.

What is in the file of a kind was all there, and all stood, at one moment: the end of that kind's
turn. Whatever changed during the turn is looked at once more, and left out if it is not the same.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from querycache.cache.dumping import patiently, portions
from querycache.cache.rebinding import Opener, Rebinder
from querycache.cache.two_tier import TwoTier
from querycache.clock import Clock
from querycache.errors import NotAvailableError, TierError
from querycache.keys import Namer, Scope
from querycache.ports.backup import (
    About,
    BackupFiles,
    BackupWriter,
    Contents,
    Dumped,
    Saved,
    Source,
)
from querycache.ports.codec import Codec, Record
from querycache.ports.tiers import Secrets
from querycache.values import Kind

STORE = "store:identity"
"""A tag that nobody moves: the stamp of its counter tells one store from another."""

_GUARDS = 50_000
"""How many guards are remembered of a turn: more, and all of it is looked at again."""


class BackedUp(msgspec.Struct, frozen=True):
    """What a backup holds: `entries` and their `bytes`. `skipped` were no longer valid, `failed`
    do not open; `reasons` counts both by reason.
    """

    path: str
    entries: int
    bytes: int
    skipped: int
    failed: int
    reasons: Mapping[str, int]
    kinds: Mapping[str, int]
    file_bytes: int
    took_ms: float


class BackUp:
    """The use case."""

    def __init__(  # noqa: PLR0913 -- what it is made of
        self,
        core: TwoTier,
        namer: Namer,
        rebinder: Rebinder,
        source: Source,
        files: BackupFiles,
        clock: Clock,
        *,
        codec_over: Callable[[Secrets], Codec],
        program: str,
    ) -> None:
        """`codec_over` makes a codec that asks for what sealed entries need where it is told;
        `program` names this version.
        """
        self._core = core
        self._namer = namer
        self._rebinder = rebinder
        self._source = source
        self._files = files
        self._clock = clock
        self._codec_over = codec_over
        self._program = program

    async def __call__(
        self,
        path: str,
        project: str = "",
        *,
        force: bool = False,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> BackedUp:
        """Writes all entries, or those of a project, to `path`; with `force` over what is there.

        `progress` is told how many entries were looked at, of how many. Raises `BackupError`,
        `TierError`, `NotAvailableError`; nothing is at `path` then that was not there before.
        """
        began = self._clock.monotonic()
        info = await self._core.l2.info()
        if info.backend == "none":
            raise NotAvailableError(
                "there is no shared tier to back up", remedy="set CACHE_L2_BACKEND=auto"
            )
        store = (await self._core.l2.stamps([STORE]))[STORE]
        about = About(
            self._clock.wall(), self._namer.prefix, info.backend, self._program, store, project
        )
        writer = self._files.create(
            path, about, force=force
        )  # here, so that no interrupt loses it
        try:
            noted = _Noted(self._core.l2)
            opener = Opener(self._codec_over(noted))
            turn = _Turn(self._core, self._rebinder, self._source, self._clock, writer, opener)
            turn.progress = lambda done: progress(done, max(done, info.entries or 0))
            kinds: dict[str, int] = {}
            for kind in Kind:
                prefix = f"{self._namer.prefix}:{kind}:"
                if project:
                    prefix += f"{Scope(project).segment}:"
                kinds[str(kind)] = await turn.take(prefix)
            made = await asyncio.to_thread(writer.finish, Contents(kinds, noted.kept))
        except BaseException:
            writer.abandon()
            raise
        failed = sum(turn.failed.values())
        return BackedUp(
            path=path,
            entries=made.entries,
            bytes=made.bytes,
            skipped=sum(turn.skipped.values()),
            failed=failed,
            reasons=dict(turn.skipped + turn.failed),
            kinds=kinds,
            file_bytes=made.file_bytes,
            took_ms=(self._clock.monotonic() - began) * 1000,
        )


class _Noted:
    """Secrets that are asked of a tier, and noted: what is noted is what the file must hold."""

    def __init__(self, secrets: Secrets) -> None:
        self.kept: dict[str, bytes] = {}
        self._secrets = secrets

    async def secret(self, name: str, proposed: bytes | None = None) -> bytes | None:
        found = await self._secrets.secret(name, proposed)
        if found is not None:
            self.kept[name] = found
        return found

    async def drop_secret(self, name: str) -> bool:
        return await self._secrets.drop_secret(name)


class _Guarded(NamedTuple):
    """The smallest entry under a guard: its name, and its bytes."""

    key: str
    size: int


class _Turn:
    """One kind after another into one file."""

    def __init__(
        self,
        core: TwoTier,
        rebinder: Rebinder,
        source: Source,
        clock: Clock,
        writer: BackupWriter,
        opener: Opener,
    ) -> None:
        self._opener = opener
        self.skipped: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.progress: Callable[[int], None] = lambda _: None
        self._generations = core.generations
        self._rebinder = rebinder
        self._source = source
        self._clock = clock
        self._writer = writer
        self._seen = 0
        self._guards: dict[int, _Guarded] = {}

    async def take(self, prefix: str) -> int:
        """Writes what begins with `prefix` and stands; how many entries. Begins anew where L2
        fails for a while: a listing can't be taken up again.
        """
        before = Counter(self.skipped), Counter(self.failed), self._seen

        async def turn(attempt: int) -> int:
            if attempt:
                self.skipped, self.failed, self._seen = (
                    Counter(before[0]),
                    Counter(before[1]),
                    before[2],
                )
            first = self._writer.blocks
            try:
                return await self._taken(prefix, first)
            except TierError:
                for block in range(first, self._writer.blocks):
                    rows = await asyncio.to_thread(self._writer.read, block)
                    await asyncio.to_thread(self._writer.drop, block, range(len(rows)))
                raise

        return await patiently(self._clock, turn)

    async def _taken(self, prefix: str, first: int) -> int:
        self._guards = {}
        self._generations.catch_up()
        world = self._generations.world
        count = 0
        async for batch in self._source.dump(prefix):
            rows = [row async for row in self._standing(batch)]
            self._seen += len(batch)
            self.progress(self._seen)
            if rows:
                await asyncio.to_thread(self._writer.write, rows)
            count += len(rows)
        if await self._moved(world):
            count -= await self._settled(first)
        return count

    async def _standing(self, batch: Sequence[Dumped]) -> AsyncIterator[Saved]:
        opened: list[tuple[Dumped, Record]] = []
        now = self._clock.wall()
        found = await self._opened([one.key for one in batch], [one.data for one in batch])
        for one, record in zip(batch, found, strict=True):
            if isinstance(record, str):
                self.failed[record] += 1
            elif min(record.expires_at, one.expires_at) <= now:
                self.skipped["expired"] += 1
            else:
                opened.append((one, record))
        stand = await self._rebinder.stand([record for _, record in opened])
        for (one, record), stands in zip(opened, stand, strict=True):
            if not stands:
                self.skipped["invalidated"] += 1
                continue
            if len(self._guards) <= _GUARDS:
                known = self._guards.get(one.guard)
                if known is None or len(one.data) < known.size:
                    self._guards[one.guard] = _Guarded(one.key, len(one.data))
            name = one.key.encode("utf-8", "surrogatepass")
            yield Saved(name, one.data, min(record.expires_at, one.expires_at))

    async def _moved(self, world: int) -> bool:
        """Whether a counter or an entry may have changed since the turn began."""
        if len(self._guards) > _GUARDS:
            return True
        for part in portions(list(self._guards.items()), lambda held: held[1].size):
            reads = await self._source.peek([one.key for _, one in part])
            if any(read.guard != guard for (guard, _), read in zip(part, reads, strict=True)):
                return True
        self._generations.catch_up()
        if self._generations.deaf:
            raise TierError(
                "no invalidations are heard just now, so what is valid can't be told",
                remedy="do it again when `querycache health` finds nothing wrong",
            )
        return world != self._generations.world

    async def _settled(self, first: int) -> int:
        """Leaves out again what is not as it was written; how many."""
        gone = 0
        for block in range(first, self._writer.blocks):
            rows = await asyncio.to_thread(self._writer.read, block)
            names = [row.name.decode("utf-8", "surrogatepass") for row in rows]
            reads = await self._source.peek(names)
            opened = await self._opened(names, [row.data for row in rows])
            records = [record for record in opened if isinstance(record, Record)]
            stand = iter(await self._rebinder.stand(records))
            places = [
                place
                for place, (row, read, record) in enumerate(zip(rows, reads, opened, strict=True))
                if not (isinstance(record, Record) and next(stand)) or read.data != row.data
            ]
            if places:
                await asyncio.to_thread(self._writer.drop, block, places)
                self.skipped["changed"] += len(places)
                gone += len(places)
        return gone

    async def _opened(self, names: Sequence[str], data: Sequence[bytes]) -> list[Record | str]:
        return await patiently(self._clock, lambda _: self._opener.open(names, data))
