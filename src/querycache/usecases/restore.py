"""Restore: entries of a backup into the shared tier, whichever it is.

The file is read to its end before anything changes. Entries then go in a batch at a time, each one
whole or not at all; whoever is stopped half-way restores again, and what is there is kept.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Literal, NamedTuple

import msgspec

from querycache.cache.dumping import portions
from querycache.cache.rebinding import Opener, Outcome, Rebinder
from querycache.cache.two_tier import TwoTier
from querycache.clock import Clock
from querycache.errors import (
    BackupError,
    NotAvailableError,
    TierError,
    UnsupportedValueError,
    UsageError,
)
from querycache.keys import Namer, Scope
from querycache.ports.backup import BackupFiles, BackupReader
from querycache.ports.codec import Codec, Record
from querycache.ports.tiers import Secrets
from querycache.values import Kind

Mode = Literal["merge", "overwrite", "replace"]
"""merge keeps what is there; overwrite does not; replace drops first what is there."""

_STORE = "store:identity"
_SEGMENTS = 3  # of a name, after its prefix
_LONGEST_S = 1e10  # a later expiry was never written
_KINDS = frozenset(Kind)


class Restored(msgspec.Struct, frozen=True):
    """What a restore did, or (a dry run, a verification) would do. `skipped` were expired, there
    already, or changed meanwhile; `failed` do not open or are named as no entry is; `reasons`
    counts both by reason. `made_at` in wall seconds; 0 for a flat file, which does not say.
    """

    path: str
    entries: int
    bytes: int
    skipped: int
    failed: int
    reasons: Mapping[str, int]
    kinds: Mapping[str, int]
    made_at: float
    took_ms: float
    flat: bool = False


class Restore:
    """The use case."""

    def __init__(  # noqa: PLR0913 -- what it is made of
        self,
        core: TwoTier,
        namer: Namer,
        rebinder: Rebinder,
        files: BackupFiles,
        clock: Clock,
        *,
        codec_over: Callable[[Secrets], Codec],
        drop: Callable[[str], Awaitable[object]],
        put: Callable[[str, object], Awaitable[bool]],
        there: Callable[[str], Awaitable[bool]],
    ) -> None:
        """`codec_over` makes a codec that asks for what sealed entries need where it is told;
        `drop` drops what is there of a project ("": everything); `put` sets, and `there` looks
        for, a caller's own key.
        """
        self._core = core
        self._namer = namer
        self._rebinder = rebinder
        self._files = files
        self._clock = clock
        self._codec_over = codec_over
        self._drop = drop
        self._put = put
        self._there = there

    async def verify(self, path: str) -> Restored:
        """Reads a file to its end and opens each entry with the present keys; L2 is not asked.

        Raises `BackupError` for a file that is damaged.
        """
        return await self(path, dry_run=True)

    async def __call__(
        self,
        path: str,
        project: str = "",
        *,
        mode: Mode = "merge",
        dry_run: bool = False,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
        failed: Callable[[str, str], None] = lambda _key, _why: None,
    ) -> Restored:
        """Restores all entries, or those of a project. A flat JSON object of keys and values is
        read too, as a whole: each is set as its caller would; `failed` is told of those that can't
        be.

        Raises `BackupError` and `UsageError` before anything changes, `TierError`,
        `NotAvailableError`.
        """
        began = self._clock.monotonic()
        if not dry_run:
            await self._reach()
        flat = await asyncio.to_thread(self._files.flat, path)
        if flat is not None:
            if project:
                raise UsageError(
                    f"{path}: a flat file does not say what is of a project",
                    remedy="leave --project out",
                )
            count = await self._set(flat, mode=mode, dry_run=dry_run, failed=failed)
            return count.ended(path, 0.0, self._clock.monotonic() - began, flat=True)
        reader = await asyncio.to_thread(self._files.open, path)
        try:
            opener = Opener(self._codec_over(_Given(reader.manifest.contents.secrets)))
            opening = _Opening(reader, opener, self._namer, self._clock, project)
            opening.progress = progress
            count = await self._looked(opening) if dry_run or mode == "replace" else _Count()
            if mode == "replace" and not dry_run:
                _refuse_nothing(path, count)
                await self._drop(project)
            if not dry_run:
                count = await self._bound(opening, mode)
        finally:
            reader.close()
        took_s = self._clock.monotonic() - began
        return count.ended(path, reader.manifest.about.made_at, took_s)

    async def _reach(self) -> None:
        info = await self._core.l2.info()
        if info.backend == "none":
            raise NotAvailableError(
                "there is no shared tier to restore to", remedy="set CACHE_L2_BACKEND=auto"
            )
        if not info.connected:
            raise TierError(f"L2 ({info.backend}) does not answer: {info.error}")

    async def _looked(self, opening: _Opening) -> _Count:
        count = _Count()
        async for records in opening.batches(count):
            for found in records:
                count.note(found, "stored")
        return count

    async def _bound(self, opening: _Opening, mode: Mode) -> _Count:
        count = _Count()
        stamps = await self._core.l2.stamps([_STORE])
        same_store = stamps[_STORE] == opening.about.store
        async for records in opening.batches(count):
            for part in portions(records, lambda found: found.size):
                asked = [found.record for found in part]
                if mode == "merge" and not same_store:  # a store may forget who it is
                    same_store = await self._rebinder.recognise(asked)
                outcomes = await self._rebinder.bind(
                    asked,
                    overwrite=mode == "overwrite",
                    same_store=same_store and mode == "merge",
                )
                for found, outcome in zip(part, outcomes, strict=True):
                    count.note(found, outcome)
        return count

    async def _set(
        self,
        values: Mapping[str, object],
        *,
        mode: Mode,
        dry_run: bool,
        failed: Callable[[str, str], None],
    ) -> _Count:
        count = _Count()
        if mode == "replace" and not dry_run:
            if not values:
                raise BackupError("the file holds nothing to replace it by")
            await self._drop("")
        for key, value in values.items():
            if not dry_run:
                if mode == "merge" and await self._there(key):
                    count.skipped["kept"] += 1
                    continue
                try:
                    done, why = await self._put(key, value), "the cache did not keep it"
                except UnsupportedValueError as error:
                    done, why = False, str(error)
                if not done:
                    count.failed["not_kept"] += 1
                    failed(key, why)
                    continue
            count.entries += 1
            count.kinds[self._namer.kind_of(self._namer.full(key))] += 1
        return count


class _Given:
    """The secrets that a file holds. Nothing is ever kept there."""

    def __init__(self, kept: Mapping[str, bytes]) -> None:
        self._kept = kept

    async def secret(self, name: str, proposed: bytes | None = None) -> bytes | None:
        del proposed
        return self._kept.get(name)

    async def drop_secret(self, name: str) -> bool:
        del name
        return False


class _Found(NamedTuple):
    """An entry of a file, and the bytes of its envelope there."""

    record: Record
    size: int


class _Count:
    """What became of the entries."""

    def __init__(self) -> None:
        self.entries = self.bytes = 0
        self.kinds: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()

    def note(self, found: _Found, outcome: Outcome) -> None:
        if outcome == "stored":
            self.entries += 1
            self.bytes += found.size
            self.kinds[found.record.key.split(":", 2)[1]] += 1
        elif outcome == "unsupported":
            self.failed[outcome] += 1
        else:
            self.skipped[outcome] += 1

    def ended(self, path: str, made_at: float, took_s: float, *, flat: bool = False) -> Restored:
        return Restored(
            path=path,
            entries=self.entries,
            bytes=self.bytes,
            skipped=sum(self.skipped.values()),
            failed=sum(self.failed.values()),
            reasons=dict(self.skipped + self.failed),
            kinds=dict(self.kinds),
            made_at=made_at,
            took_ms=took_s * 1000,
            flat=flat,
        )


class _Opening:
    """The entries of a file, opened, under the names that they have here."""

    def __init__(
        self,
        reader: BackupReader,
        opener: Opener,
        namer: Namer,
        clock: Clock,
        project: str,
    ) -> None:
        self.about = reader.manifest.about
        self.progress: Callable[[int, int], None] = lambda _done, _total: None
        self._reader = reader
        self._opener = opener
        self._prefix = namer.prefix
        self._clock = clock
        self._segment = Scope(project).segment if project else ""

    async def batches(self, count: _Count) -> AsyncIterator[list[_Found]]:
        """Those that can be restored, a block at a time; the others are counted."""
        rows = self._reader.rows()
        done, total = 0, self._reader.manifest.entries
        while (block := await asyncio.to_thread(next, rows, None)) is not None:
            rests = {
                place: rest for place, row in enumerate(block) if (rest := self._rest(row.name))
            }
            count.failed["bad_name"] += len(block) - len(rests)
            done += len(block)
            self.progress(done, total)
            wanted = [place for place, rest in rests.items() if self._is_asked(rest)]
            opened = await self._opener.open(
                [f"{self.about.prefix}:{rests[place]}" for place in wanted],
                [block[place].data for place in wanted],
            )
            records: list[_Found] = []
            for place, record in zip(wanted, opened, strict=True):
                if isinstance(record, str):
                    count.failed[record] += 1
                    continue
                here = self._here(record, rests[place], block[place].expires_at, count)
                records += [_Found(here, len(block[place].data))] if here else []
            if records:
                yield records

    def _is_asked(self, rest: str) -> bool:
        return not self._segment or rest.split(":")[1] == self._segment

    def _here(self, record: Record, rest: str, until: float, count: _Count) -> Record | None:
        """A record under its name here; None where its life is over, or no life."""
        expires_at = min(record.expires_at, until)
        left = expires_at - self._clock.wall()
        if left <= 0.0:
            count.skipped["expired"] += 1
            return None
        if not left < _LONGEST_S:
            count.failed["bad_expiry"] += 1
            return None
        return msgspec.structs.replace(
            record,
            key=f"{self._prefix}:{rest}",
            expires_at=expires_at,
            fresh_until=min(record.fresh_until, expires_at),
        )

    def _rest(self, coded: bytes) -> str:
        """A name without its prefix; "" for what names no entry."""
        try:
            head, _, rest = coded.decode("utf-8", "surrogatepass").partition(":")
        except UnicodeDecodeError:
            return ""
        segments = rest.split(":")
        named = len(segments) == _SEGMENTS and segments[0] in _KINDS
        return rest if named and head == self.about.prefix else ""


def _refuse_nothing(path: str, count: _Count) -> None:
    """Before anything is dropped for it."""
    if not count.entries:
        why = ", ".join(
            f"{n} {reason}" for reason, n in sorted((count.skipped + count.failed).items())
        )
        raise BackupError(
            f"{path}: no entry of it can be restored ({why or 'it holds none'})",
            remedy="nothing was changed; what is sealed needs the key that sealed it",
        )
