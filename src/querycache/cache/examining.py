"""Where an entry is, why it is served or not, and whether the tiers agree: looked at without
counting or filling.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

import msgspec

from querycache.cache.claims import Claims
from querycache.cache.generations import Generations
from querycache.cache.parts import Parts
from querycache.errors import TierError, UnreadableError, UnsupportedValueError
from querycache.events import Difference, Healed
from querycache.ports.codec import Body, Form, Record, Shape
from querycache.ports.tiers import Entry, Read
from querycache.values import Stamp

_TURN_BYTES = 256 * 1024
"""How much is compared before others may run."""

_ENTRY_BYTES = 10_000
"""What an entry costs to compare beside its bytes, in bytes."""

_SAME_BIRTH_S = 0.01
"""Births closer than this are one birth: they are measured by two clocks."""


class TagState(msgspec.Struct, frozen=True):
    """A counter that an entry depends on: as it stood at its birth, and as it stands."""

    tag: str
    at_birth: Stamp
    now: Stamp | None


class Found(msgspec.Struct, frozen=True):
    """An entry in one tier. Ages and lives in seconds; negative lives are over."""

    bytes: int
    age_s: float
    fresh_s: float
    usable_s: float
    load_s: float
    tags: tuple[TagState, ...]

    @property
    def verdict(self) -> str:
        """What a reader would make of it."""
        if any(tag.now != tag.at_birth for tag in self.tags):
            return "invalidated"
        if self.usable_s <= 0.0:
            return "expired"
        return "fresh" if self.fresh_s > 0.0 else "stale"


class Examined(msgspec.Struct, frozen=True):
    """An entry in both tiers; `trouble` says why L2 could not tell."""

    l1: Found | None
    l2: Found | None
    trouble: str


class Checks(msgspec.Struct, frozen=True):
    """What comparisons of the tiers found so far. `last_at` in wall seconds, 0 before the first;
    `last_ms` is how long it took.
    """

    checks: int = 0
    compared: int = 0
    mismatches: int = 0
    last_at: float = 0.0
    last_ms: float = 0.0
    last_mismatches: int = 0

    def after(self, compared: int, mismatches: int, *, at: float, took_s: float) -> Checks:
        """The same, after one more check."""
        return Checks(
            self.checks + 1,
            self.compared + compared,
            self.mismatches + mismatches,
            at,
            took_s * 1000,
            mismatches,
        )


class Reconciled(msgspec.Struct, frozen=True):
    """How many entries of L1 were compared; of how many L2 holds nothing that it would serve; and
    how L2 differed in those that were dropped from L1.
    """

    compared: int
    missing: int
    differing: dict[str, Difference]


class Examiner:
    """Looks."""

    def __init__(self, parts: Parts, generations: Generations, claims: Claims) -> None:
        self._parts = parts
        self._generations = generations
        self._claims = claims

    async def examine(self, key: str) -> Examined:
        """What each tier of this process holds under `key`."""
        self._generations.catch_up()
        try:
            found, trouble = await self._in_l2(key)
        except TierError as error:
            found, trouble = None, str(error)
        except UnreadableError as error:
            found, trouble = None, f"unreadable: {error.reason}"
        return Examined(self._in_l1(key), found, trouble)

    async def reconcile(self, keys: Sequence[str]) -> Reconciled:
        """Compares what L1 serves under `keys` with what L2 holds, and drops from L1 what differs,
        so that L2 decides. Raises `TierError`.

        L2 is asked once for all, and once more about what seems to differ: by then the news of a
        change that was under way is here. A key that is on its way into L1, or is heard of
        meanwhile, is left alone.
        """
        self._generations.catch_up()
        held = {key: entry for key in keys if (entry := self._served(key)) is not None}
        suspects, missing = await self._differing(held)
        claims = {
            key: claim for key in suspects if (claim := self._claims.try_claim(key)) is not None
        }
        differing: dict[str, Difference] = {}
        try:
            entries = self._parts.l1.entries
            again = {key: held[key] for key in claims if entries.get(key) is held[key]}
            if again:
                self._generations.catch_up()
                differing, _ = await self._differing(again)
                self._generations.catch_up()
        finally:
            for key, claim in claims.items():
                drop = partial(self._parts.l1.remove, key) if key in differing else _leave
                if not self._claims.land(key, claim, drop):
                    differing.pop(key, None)
        for key, how in differing.items():
            self._parts.observer.emit(Healed(key, how))
        return Reconciled(len(held), missing, differing)

    def _in_l1(self, key: str) -> Found | None:
        entry = self._parts.l1.entries.get(key)
        if entry is None:
            return None
        now = self._parts.clock.monotonic()
        return Found(
            bytes=entry.weight,
            age_s=now - entry.born,
            fresh_s=entry.fresh_until - now,
            usable_s=entry.expires - now,
            load_s=entry.load_s,
            tags=self._states(entry.tags),
        )

    async def _in_l2(self, key: str) -> tuple[Found | None, str]:
        (read,) = await self._parts.l2.read([key])
        if read.data is None:
            return None, ""
        if (pending := self._parts.codec.prepare((key,), (read.data,))) is not None:
            await pending
        record = self._open(key, read.data)
        await self._generations.learn([tag for tag, _ in record.tags])
        wall = self._parts.clock.wall()
        found = Found(
            bytes=len(read.data),
            age_s=wall - record.born,
            fresh_s=record.fresh_until - wall,
            usable_s=record.expires_at - wall,
            load_s=record.load_s,
            tags=self._states(record.tags),
        )
        masked = key in self._generations.owed_keys
        return found, "masked: L2 could not be told yet" if masked else ""

    def _served(self, key: str) -> Entry | None:
        """An entry of L1 that readers get, and of which L2 has heard."""
        entry = self._parts.l1.entries.get(key)
        if entry is None or entry.expires <= self._parts.clock.monotonic():
            return None
        told = self._generations.told(key)
        return entry if told and self._generations.stand(entry.tags) else None

    async def _differing(self, held: Mapping[str, Entry]) -> tuple[dict[str, Difference], int]:
        """Which of these L2 holds otherwise, and how; and how many it can't serve at all, which
        is no difference: what was evicted there is still true.
        """
        if not held:
            return {}, 0
        reads = await self._read(list(held))
        found: dict[str, Difference] = {}
        missing = worked = 0
        for (key, entry), read in zip(held.items(), reads, strict=True):
            if read.data is None:
                missing += 1
                continue
            worked += len(read.data) + _ENTRY_BYTES
            if worked > _TURN_BYTES:
                worked = 0
                await asyncio.sleep(0)  # let others run
            try:
                record = self._open(key, read.data)
                await self._generations.learn([tag for tag, _ in record.tags])
                if not self._generations.stand(record.tags):
                    missing += 1
                elif not self._same(entry.value, record.body):
                    found[key] = self._how(entry, record)
            except UnreadableError:
                found[key] = "unreadable"
        return found, missing

    async def _read(self, keys: Sequence[str]) -> list[Read]:
        """What L2 holds, ready to be opened."""
        reads = await self._parts.l2.read(keys, fenced=False)
        pending = self._parts.codec.prepare(keys, [read.data for read in reads])
        if pending is not None:
            await pending
        return reads

    def _same(self, value: object, there: Body) -> bool:
        return value.data == there.data if isinstance(value, Body) else self._is(value, there)

    def _how(self, entry: Entry, record: Record) -> Difference:
        clock = self._parts.clock
        ahead = record.born - (clock.wall() - (clock.monotonic() - entry.born))
        if abs(ahead) <= _SAME_BIRTH_S:
            return "altered"
        return "newer" if ahead > 0 else "older"

    def _open(self, key: str, data: bytes) -> Record:
        """Opens an entry of any form: a kind's own entries and a caller's keys of that kind
        differ in it.
        """
        *forms, last = Form
        for form in forms:
            with suppress(UnreadableError):
                return self._parts.codec.open(key, data, Shape(form=form))
        return self._parts.codec.open(key, data, Shape(form=last))

    def _is(self, value: object, body: Body) -> bool:
        """Whether a value that readers share is what a body holds."""
        codec = self._parts.codec
        for half in (False, True):
            shape = Shape(form=body.form, type=type(value), half=half)
            with suppress(UnsupportedValueError):
                if codec.encode(value, shape).data == body.data:
                    return True
        # Equal sets may have their members in another order.
        return body.form is Form.MSGPACK and codec.encode(codec.decode(body)) == codec.encode(
            value
        )

    def _states(self, tags: tuple[tuple[str, Stamp], ...]) -> tuple[TagState, ...]:
        return tuple(TagState(tag, stamp, self._generations.now(tag)) for tag, stamp in tags)


def _leave() -> None:
    """Nothing is to be done."""
