"""Where an entry is and why it is served or not: looked at without counting or filling."""

from __future__ import annotations

from contextlib import suppress

import msgspec

from querycache.cache.generations import Generations
from querycache.cache.parts import Parts
from querycache.errors import TierError, UnreadableError, UnsupportedValueError
from querycache.ports.codec import Body, Form, Record, Shape
from querycache.values import Stamp


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


class Examiner:
    """Looks."""

    def __init__(self, parts: Parts, generations: Generations) -> None:
        self._parts = parts
        self._generations = generations

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

    async def differs(self, key: str) -> bool:
        """Whether L1 and L2 hold different values under `key`; False where one holds none."""
        entry = self._parts.l1.entries.get(key)
        (read,) = await self._parts.l2.read([key])
        if entry is None or read.data is None:
            return False
        try:
            there = self._open(key, read.data).body
        except UnreadableError:
            return False  # a reader of L2 counts it, and loads
        if isinstance(entry.value, Body):
            return entry.value.data != there.data
        return not self._is(entry.value, there)

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
