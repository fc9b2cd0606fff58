"""From L2 to an entry: read, open, check the generation, fill L1."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from querycache.cache.claims import Claims
from querycache.cache.drafts import LOCAL
from querycache.cache.filling import entry_for
from querycache.cache.generations import Generations
from querycache.cache.parts import Parts
from querycache.cache.past import Past
from querycache.cache.policy import Policy
from querycache.cache.write_back import WriteBack
from querycache.errors import TierError, UnreadableError
from querycache.events import Invalidated, MissReason, TierFailed, Unreadable
from querycache.ports.codec import Record
from querycache.ports.tally import Tally
from querycache.ports.tiers import Entry, Read


class Looked(msgspec.Struct, frozen=True, gc=False):
    """What a look into L2 gave: an entry that may be served (fresh or stale) with its decoded
    value, or the reason why not; and the guard under which a load that follows may be stored.
    `fits`: small enough for L1.
    """

    entry: Entry | None
    value: object
    reason: MissReason
    guard: int | None
    fits: bool = False


_L2_DOWN = Looked(None, None, "l2_down", None)


class Reader:
    """Looks into L2."""

    def __init__(
        self,
        parts: Parts,
        generations: Generations,
        claims: Claims,
        back: WriteBack,
        past: Past,
    ) -> None:
        self._l1 = parts.l1
        self._weigh = parts.weigh
        self._l2 = parts.l2
        self._codec = parts.codec
        self._clock = parts.clock
        self._observer = parts.observer
        self._generations = generations
        self._claims = claims
        self._back = back
        self._past = past

    async def look(
        self, keys: Sequence[str], policy: Policy, tally: Tally, *, fill: bool = True
    ) -> list[Looked]:
        """What L2 has for each key; what may be served goes into L1, unless something about it was
        heard of meanwhile (or `fill` is off).
        """
        if not policy.l2:
            return [self._not_asked(key, policy) for key in keys]
        fill = fill and policy.l1
        claims = [self._claims.try_claim(key) if fill else None for key in keys]
        looked: list[Looked] = []
        try:
            looked = await self._read(keys, policy, tally)
        except TierError as error:
            self._failed(keys[0], tally, error)
            looked = [_L2_DOWN] * len(keys)
        except BaseException:
            for key, claim in zip(keys, claims, strict=True):
                self._claims.redeem(key, claim)
            raise
        for key, claim, found in zip(keys, claims, looked, strict=True):
            self._end(key, claim, found)
        return looked

    async def look_at(self, key: str, policy: Policy, tally: Tally) -> Looked:
        """The same for one key, which is what most readers want."""
        if not policy.l2:
            return self._not_asked(key, policy)
        claim = self._claims.try_claim(key) if policy.l1 else None
        found = _L2_DOWN
        try:
            found = await self._read_at(key, policy, tally)
        except TierError as error:
            self._failed(key, tally, error)
        finally:
            self._end(key, claim, found)
        return found

    def _end(self, key: str, claim: object | None, found: Looked) -> None:
        """Ends a claim, with what was found in L1 if it may be there."""
        if claim is None:
            return
        if found.entry is not None and found.fits:
            self._claims.land(key, claim, self._l1.put, found.entry)
        else:
            self._claims.redeem(key, claim)

    def _not_asked(self, key: str, policy: Policy) -> Looked:
        return Looked(None, None, self._past.why(key) if policy.l1 else "disabled", None)

    async def _read_at(self, key: str, policy: Policy, tally: Tally) -> Looked:
        (read,) = await self._reads((key,), policy, tally)
        if read is None:
            return _L2_DOWN
        if (pending := self._codec.prepare((key,), (read.data,))) is not None:
            await pending
        record = self._open(key, read, policy, tally)
        if isinstance(record, Looked):
            return record
        if not self._generations.stand(record.tags):  # one has moved, or is not known yet
            await self._generations.learn([tag for tag, _ in record.tags])
        return self._judge(record, read.guard, policy, tally)

    async def _read(self, keys: Sequence[str], policy: Policy, tally: Tally) -> list[Looked]:
        reads = await self._reads(keys, policy, tally)
        stored = [read.data if read else None for read in reads]
        if (pending := self._codec.prepare(keys, stored)) is not None:
            await pending
        opened = [
            (read.guard, self._open(key, read, policy, tally)) if read else (None, _L2_DOWN)
            for key, read in zip(keys, reads, strict=True)
        ]
        doubtful = {
            tag
            for _, record in opened
            if isinstance(record, Record) and not self._generations.stand(record.tags)
            for tag, _ in record.tags
        }
        if doubtful:  # a counter has moved, or is not known yet
            await self._generations.learn(list(doubtful))
        return [
            self._judge(record, guard, policy, tally) if isinstance(record, Record) else record
            for guard, record in opened
        ]

    async def _reads(
        self, keys: Sequence[str], policy: Policy, tally: Tally
    ) -> Sequence[Read | None]:
        """What waits for its way to L2, and for the rest what L2 has; None where that failed, or
        nobody knows whether what waits is still true.
        """
        waiting = self._back.queue.items
        if not waiting or waiting.keys().isdisjoint(keys):
            return await self._timed(keys, policy, tally)
        found: dict[str, Read | None] = {}
        for key in keys:
            item = self._back.usable(key)
            if item is not None:
                known = not (self._generations.bypass and item.write.tell)
                found[key] = Read(item.write.data, LOCAL) if known else None
        asked = [key for key in keys if key not in found]
        if asked:
            try:
                reads = await self._timed(asked, policy, tally)
            except TierError as error:
                self._failed(asked[0], tally, error)
                reads = [None] * len(asked)
            found |= zip(asked, reads, strict=True)
        return [found[key] for key in keys]

    async def _timed(self, keys: Sequence[str], policy: Policy, tally: Tally) -> Sequence[Read]:
        asked = self._clock.monotonic()
        reads = await self._l2.read(keys, fenced=not policy.immutable)
        tally.l2.observe(self._clock.monotonic() - asked)
        return reads

    def _failed(self, key: str, tally: Tally, error: TierError) -> None:
        tally.errors += 1
        self._observer.emit(TierFailed(key, self._l2.name, "read", str(error)))

    def _open(self, key: str, read: Read, policy: Policy, tally: Tally) -> Record | Looked:
        if key in self._generations.owed_keys and read.guard != LOCAL:
            return Looked(None, None, "invalidated", read.guard)
        if read.data is None:
            return Looked(None, None, self._past.why(key), read.guard)
        try:
            return self._codec.open(key, read.data, policy.shape)
        except UnreadableError as error:
            return self._unreadable(key, read.guard, tally, error)

    def _judge(self, record: Record, guard: int | None, policy: Policy, tally: Tally) -> Looked:
        world = self._generations.world
        moved = self._generations.moved(record.tags)
        if moved:
            self._observer.emit(Invalidated(record.key, moved, ""))
            return Looked(None, None, "invalidated", guard)
        wall, now = self._clock.wall(), self._clock.monotonic()
        life = record.expires_at - record.born
        left = min(record.expires_at - wall, life)  # a clock that went back prolongs nothing
        if left <= 0.0:
            return Looked(None, None, "expired", guard)
        try:
            value = self._codec.decode(record.body, policy.shape)
        except UnreadableError as error:
            return self._unreadable(record.key, guard, tally, error)
        self._past.note(record.key, policy.kind, now + left, record.tags)
        entry = entry_for(
            record.key,
            value if record.body.shareable else record.body,
            policy=policy,
            now=now,
            age=max(0.0, wall - record.born),
            fresh_left=min(record.fresh_until - wall, life),
            usable_left=left,
            l1_life=self._generations.l1_life,
            load_s=record.load_s,
            tags=record.tags,
            world=world,
            tally=tally,
            weight=self._weigh(record.key, len(record.body.data)),
        )
        fits = len(record.body.data) <= policy.max_l1_bytes
        return Looked(entry, value, "absent", guard, fits)

    def _unreadable(
        self, key: str, guard: int | None, tally: Tally, error: UnreadableError
    ) -> Looked:
        tally.errors += 1
        self._observer.emit(Unreadable(key, error.reason))
        return Looked(None, None, "unreadable", guard)
