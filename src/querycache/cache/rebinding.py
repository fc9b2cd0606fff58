"""Entries on their way out of a store and into another: opened, and bound to its counters.

An entry is valid under the stamps in its envelope, and no two stores have the same counters. So
what enters a store is opened and sealed again under the stamps that its tags have there now. Read,
stamps, guarded write: a change that lands in between refuses the write, or makes it unreachable.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Literal

import msgspec

from querycache.cache.dumping import patiently
from querycache.cache.generations import is_nowhere
from querycache.cache.two_tier import TwoTier
from querycache.clock import Clock
from querycache.errors import TierError, UnreadableError, UnsupportedValueError
from querycache.ports.codec import Codec, Form, Record, Shape
from querycache.ports.tiers import Read, Write
from querycache.values import Kind, Stamp

Outcome = Literal["stored", "kept", "changed", "invalidated", "expired", "unsupported"]
"""What became of an entry: kept is what was there; changed says that somebody else wrote it
meanwhile; invalidated, that a tag of it has moved since in this very store.
"""

_ATTEMPTS = 3
_OTHER_FORM = "bad_header"  # what an envelope of another form is called
_KINDS = frozenset(f"kind:{kind}" for kind in Kind)


class Opener:
    """Opens entries of any form."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._form = Form.MSGPACK  # of the last entry: the next one is mostly of the same

    async def open(self, keys: Sequence[str], stored: Sequence[bytes]) -> list[Record | str]:
        """Each entry, or the reason why it does not open. Raises `TierError`."""
        pending = self._codec.prepare(keys, stored)
        if pending is not None:
            await pending
        return [self._open(key, data) for key, data in zip(keys, stored, strict=True)]

    def _open(self, key: str, data: bytes) -> Record | str:
        usual = self._form
        for form in (usual, *(form for form in Form if form is not usual)):
            try:
                record = self._codec.open(key, data, Shape(form=form))
            except UnreadableError as error:
                if error.reason != _OTHER_FORM:
                    return error.reason
            else:
                self._form = form
                return record
        return _OTHER_FORM


class Rebinder:
    """Gives opened entries to L2."""

    def __init__(self, core: TwoTier, codec: Codec, clock: Clock) -> None:
        self._core = core
        self._codec = codec
        self._opener = Opener(codec)
        self._clock = clock

    async def stand(self, records: Sequence[Record]) -> list[bool]:
        """Whether no tag of each has moved. Raises `TierError`."""
        generations = self._core.generations
        generations.catch_up()
        await patiently(self._clock, lambda _: self._learn(records))
        return [generations.stand(record.tags) for record in records]

    async def recognise(self, records: Sequence[Record]) -> bool:
        """Whether a counter stands as it did when one of them was made: no other store has it so.
        Raises `TierError`.
        """
        await patiently(self._clock, lambda _: self._learn(records))
        now = self._core.generations.now
        return any(now(tag) == stamp for record in records for tag, stamp in record.tags)

    async def bind(
        self, records: Sequence[Record], *, overwrite: bool, same_store: bool
    ) -> list[Outcome]:
        """Writes each under the present stamps of its tags, and tells.

        What is there stays, without `overwrite`; then, and in the `same_store` that they come
        from, so does the invalidation of a tag (a kind's own apart: that is a clean-up). Raises
        `TierError`; some may be written then.
        """

        def bind(attempt: int) -> Awaitable[list[Outcome]]:
            return self._bind(
                records, overwrite=overwrite, same_store=same_store, again=attempt > 0
            )

        return await patiently(self._clock, bind)

    async def _bind(
        self, records: Sequence[Record], *, overwrite: bool, same_store: bool, again: bool
    ) -> list[Outcome]:
        """`again`: what is there and the same was stored by an attempt that failed."""
        outcomes: list[Outcome] = ["changed"] * len(records)
        left = list(range(len(records)))
        for _ in range(_ATTEMPTS):
            asked = [records[place] for place in left]
            turn = await self._turn(asked, overwrite=overwrite, same_store=same_store, again=again)
            for place, outcome in zip(left, turn, strict=True):
                outcomes[place] = outcome
            left = [place for place in left if outcomes[place] == "changed"]
            if not left:
                break
        return outcomes

    async def _turn(
        self, records: Sequence[Record], *, overwrite: bool, same_store: bool, again: bool
    ) -> list[Outcome]:
        keys = [record.key for record in records]
        reads = await self._core.l2.read(keys)
        self._core.generations.catch_up()
        await self._learn(records)
        held = dict[str, Record]() if overwrite else await self._held(keys, reads)
        if (pending := self._codec.prepare(keys)) is not None:
            await pending
        made: list[Write | Outcome] = []
        for record, read in zip(records, reads, strict=True):
            if same_store and not overwrite and self._lags(record):
                made.append("invalidated")
            elif (there := held.get(record.key)) is not None:
                made.append("stored" if again and _alike(there, record) else "kept")
            else:
                made.append(self._write(record, read.guard))
        done = iter(await self._written([one for one in made if isinstance(one, Write)]))
        return [
            one if not isinstance(one, Write) else "stored" if next(done) else "changed"
            for one in made
        ]

    async def _written(self, writes: Sequence[Write]) -> list[bool]:
        if not writes:
            return []
        try:
            return await self._core.l2.write(writes)
        finally:
            for write in writes:
                self._core.leave_to_l2(write.key)

    def _write(self, record: Record, guard: int) -> Write | Outcome:
        """A record as L2 takes it."""
        if record.expires_at <= self._clock.wall():
            return "expired"
        stamps: list[tuple[str, Stamp]] = []
        for tag, _ in record.tags:
            now = self._core.generations.now(tag)
            if now is None:  # the view was emptied meanwhile
                return "changed"
            stamps.append((tag, now))
        bound = msgspec.structs.replace(record, tags=tuple(stamps))
        try:
            data = self._codec.seal(bound, Shape(form=record.body.form))
        except UnsupportedValueError:
            return "unsupported"
        return Write(bound.key, data, bound.expires_at, tuple(t for t, _ in stamps), guard)

    async def _held(self, keys: Sequence[str], reads: Sequence[Read]) -> dict[str, Record]:
        """The entries of L2 that would be served, by their names."""
        held = {k: r.data for k, r in zip(keys, reads, strict=True) if r.data is not None}
        if not held:
            return {}
        opened = await self._opener.open(list(held), list(held.values()))
        there = [record for record in opened if isinstance(record, Record)]
        await self._learn(there)
        now, stand = self._clock.wall(), self._core.generations.stand
        return {r.key: r for r in there if r.expires_at > now and stand(r.tags)}

    def _lags(self, record: Record) -> bool:
        now = self._core.generations.now
        return any(tag not in _KINDS and now(tag) != stamp for tag, stamp in record.tags)

    async def _learn(self, records: Sequence[Record]) -> None:
        """Raises `TierError` also where L2 did not say how a counter stands: what is bound to the
        stamp that is used meanwhile is never valid.
        """
        generations = self._core.generations
        tags = dict.fromkeys(tag for record in records for tag, _ in record.tags)
        await generations.learn(list(tags))
        known = ((tag, generations.now(tag)) for tag in tags)
        if is_nowhere(tuple((tag, stamp) for tag, stamp in known if stamp is not None)):
            raise TierError(
                "the shared tier does not say how its counters stand",
                remedy="do it again when `querycache health` finds nothing wrong",
            )


def _alike(one: Record, other: Record) -> bool:
    """Whether they are the same but for where their tags stand."""
    return msgspec.structs.replace(one, tags=other.tags) == other
