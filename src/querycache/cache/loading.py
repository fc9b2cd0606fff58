"""A load and all that it is stored under: stamps, guard and claim, taken before it begins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, Literal, NamedTuple, TypeVar

import msgspec

from querycache.cache.drafts import Draft
from querycache.cache.generations import Generations, Stamps
from querycache.cache.lease import Leases
from querycache.cache.parts import Parts
from querycache.cache.policy import Policy
from querycache.cache.reading import Looked, Reader
from querycache.cache.writing import Writer
from querycache.errors import OutdatedKeyError, TierError, UnsupportedValueError
from querycache.events import Hit, Loaded, LoadFailed, Missed, MissReason, NotStored
from querycache.ports.codec import Body, Shape
from querycache.ports.tally import Tally
from querycache.ports.tiers import Entry

_SLOW_S = 0.1
"""An L2 that takes longer for a read is not asked for a lease."""

V = TypeVar("V")
Load = Callable[[], Awaitable[object]]
LoadMany = Callable[[list[str]], Awaitable[Mapping[str, object]]]


class Answer(msgspec.Struct, Generic[V], frozen=True, gc=False):
    """A value and how it came about.

    Attributes:
        value: The value; None where `found` is False.
        found: Whether there is one.
        tier: Where it was found; "none" where it was loaded (or not found).
        age_s: Seconds since the start of the load that made it.
        stale: Past its fresh life.
        reason: Why it was no hit, where it was none.
        saved_s: Seconds that the load of a hit took once, and now did not.
        body: The encoded value, where who shares the load must not share `value`.
    """

    value: V
    found: bool
    tier: Literal["l1", "l2", "none"] = "none"
    age_s: float = 0.0
    stale: bool = False
    reason: MissReason | Literal[""] = ""
    saved_s: float = 0.0
    body: Body | None = None


class Wanted(msgspec.Struct, frozen=True):
    """What a caller of `get_or_load` wants: the entry's name, rules and tags, and how to load
    it.
    """

    key: str
    policy: Policy
    tally: Tally
    load: Load
    tags: tuple[str, ...]
    ttl: float | None


class _Missing(NamedTuple):
    """Keys that L2 does not hold, and the rules under which they are loaded."""

    looks: Mapping[str, Looked]
    policy: Policy
    tally: Tally
    tags: tuple[str, ...]


class Loading:
    """Looks into L2 and loads what is not there."""

    def __init__(
        self, parts: Parts, generations: Generations, reader: Reader, writer: Writer
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._generations = generations
        self._leases = Leases(parts.l2, parts.clock)
        self._codec = parts.codec
        self._clock = parts.clock
        self._observer = parts.observer
        self._draw = parts.draw

    async def take(self, tags: tuple[str, ...]) -> Stamps | None:
        """The stamps of `tags`; None where they can't be read, so that nothing can be stored."""
        try:
            return await self._generations.take(tags)
        except TierError:
            return None

    async def run(self, want: Wanted, *, reload: bool = False) -> Answer[object]:
        """What L2 has (with `reload`: if it is fresh), else what the load gives."""
        self._generations.catch_up()
        stamps = await self.take(want.tags)
        asked = self._clock.monotonic()
        looked = await self._look(want)
        if looked.entry is not None and not (reload and self._due(looked.entry)):
            return self.found(want.key, looked, want.tally)
        slow = self._clock.monotonic() - asked > _SLOW_S  # a lease takes three more such trips
        if not want.policy.lease or looked.guard is None or slow:
            return await self._load(want, stamps, looked)
        policy = want.policy
        async with self._leases.held(want.key, policy.lease, policy.lease_patience):
            self._generations.catch_up()
            stamps = await self.take(want.tags)
            again = await self._look(want)
            if again.entry is not None and not self._due(again.entry):
                return self.found(want.key, again, want.tally)
            return await self._load(want, stamps, again)

    async def run_many(
        self,
        keys: Sequence[str],
        policy: Policy,
        tally: Tally,
        load: LoadMany,
        *,
        tags: tuple[str, ...],
        to_l1: bool,
    ) -> dict[str, Answer[object]]:
        """The same for many keys: one look, and one load of what L2 does not hold."""
        stamps = await self.take(tags)
        looks = await self._reader.look(keys, policy, tally, fill=False)
        answers: dict[str, Answer[object]] = {}
        missing: dict[str, Looked] = {}
        for key, look in zip(keys, looks, strict=True):
            if look.entry is None:
                missing[key] = look
            else:
                answers[key] = self.found(key, look, tally)
        if missing:
            many = _Missing(missing, policy, tally, tags)
            answers |= await self._load_many(many, load, stamps, to_l1=to_l1)
        return answers

    async def _load_many(
        self, many: _Missing, load: LoadMany, stamps: Stamps | None, *, to_l1: bool
    ) -> dict[str, Answer[object]]:
        missing, policy, tally, tags = many
        answers: dict[str, Answer[object]] = {}
        claims = {key: self._writer.claims.claim(key) for key in missing}
        drafts: list[Draft] = []
        try:
            started, born = self._clock.monotonic(), self._clock.wall()
            values = await self._call_many(missing, tally, load)
            whole = self._clock.monotonic() - started
            tally.load.observe(whole)
            took = whole / max(1, len(values))
            for key, value in values.items():
                answers[key] = Answer(value, found=True, reason=missing[key].reason)
                want = Wanted(key, policy, tally, nothing, tags, None)
                body = self._encoded(want, value)
                made = self._draft(want, value, body, stamps, missing[key].guard, claims[key])
                if made is not None:
                    drafts.append(
                        msgspec.structs.replace(made, started=started, born=born, load_s=took)
                    )
        except BaseException:
            for key, claim in claims.items():
                self._writer.claims.redeem(key, claim)
            raise
        for key in claims.keys() - {draft.key for draft in drafts}:
            self._writer.claims.redeem(key, claims[key])
        await self._writer.store(drafts, tally, to_l1=to_l1)
        return answers

    def draft(self, want: Wanted, value: object, stamps: Stamps, body: Body) -> Draft:
        """A caller's own write, claimed: unguarded, born now."""
        made = self._drafted(want, value, body, stamps)  # before the claim: it may raise
        return msgspec.structs.replace(made, claim=self._writer.claims.claim(want.key))

    def for_another(self, answer: Answer[object], shape: Shape) -> Answer[object]:
        """The answer for one who shares the load: its value can't be changed by the others."""
        body = answer.body
        if body is None:
            return answer
        share, decode = self._codec.share, self._codec.decode
        value = share(answer.value, body) if body.shareable else decode(body, shape)
        return msgspec.structs.replace(answer, value=value)

    def found(self, key: str, looked: Looked, tally: Tally) -> Answer[object]:
        """The answer for what L2 holds under `key`, counted."""
        entry = looked.entry
        if entry is None:
            self._missed(key, looked, tally)
            return Answer(None, found=False, reason=looked.reason)
        now = self._clock.monotonic()
        stale = now >= entry.fresh_until
        tally.l2_hits += 1
        tally.stale_hits += stale
        tally.saved_s += entry.load_s
        self._observer.emit(Hit(entry.key, now - entry.born, stale))
        return Answer(
            looked.value,
            found=True,
            tier="l2",
            age_s=max(0.0, now - entry.born),
            stale=stale,
            saved_s=entry.load_s,
            body=entry.value if isinstance(entry.value, Body) else None,
        )

    async def _look(self, want: Wanted) -> Looked:
        return await self._reader.look_at(want.key, want.policy, want.tally)

    def _due(self, entry: Entry) -> bool:
        """Whether a reload should not be content with this entry."""
        return self._clock.monotonic() >= entry.settled_until

    async def _load(self, want: Wanted, stamps: Stamps | None, looked: Looked) -> Answer[object]:
        self._missed(want.key, looked, want.tally)
        want.tally.loads += 1
        claim = self._writer.claims.claim(want.key)
        started, born = self._clock.monotonic(), self._clock.wall()
        draft: Draft | None = None
        try:
            value = await self._call(want, looked)
            took = self._clock.monotonic() - started
            want.tally.load.observe(took)
            self._observer.emit(Loaded(want.key, took))
            body = self._encoded(want, value)
            draft = self._draft(want, value, body, stamps, looked.guard, claim)
        finally:
            if draft is None:
                self._writer.claims.redeem(want.key, claim)
        if draft is not None:
            draft = msgspec.structs.replace(draft, started=started, born=born, load_s=took)
            await self._writer.store([draft], want.tally)
        return Answer(value, found=True, reason=looked.reason, body=body)

    async def _call(self, want: Wanted, looked: Looked) -> object:
        try:
            return await want.load()
        except OutdatedKeyError:
            raise
        except Exception as error:
            want.tally.errors += 1
            self._observer.emit(
                LoadFailed(want.key, _brief(error), served_stale=looked.entry is not None)
            )
            raise

    async def _call_many(
        self, missing: Mapping[str, Looked], tally: Tally, load: LoadMany
    ) -> Mapping[str, object]:
        tally.loads += len(missing)
        for key, looked in missing.items():
            self._missed(key, looked, tally)
        try:
            return await load(list(missing))
        except Exception as error:
            tally.errors += 1
            self._observer.emit(LoadFailed("", _brief(error), served_stale=False))
            raise

    def _missed(self, key: str, looked: Looked, tally: Tally) -> None:
        tally.misses += 1
        tally.reasons[looked.reason] = tally.reasons.get(looked.reason, 0) + 1
        self._observer.emit(Missed(key, looked.reason))

    def _encoded(self, want: Wanted, value: object) -> Body | None:
        """A loaded value's body; None where it has none."""
        try:
            return self._codec.encode(value, want.policy.shape)
        except UnsupportedValueError:
            self._observer.emit(NotStored(want.key, "unsupported"))
            return None

    def _draft(
        self,
        want: Wanted,
        value: object,
        body: Body | None,
        stamps: Stamps | None,
        guard: int | None,
        claim: object,
    ) -> Draft | None:
        """A loaded value on its way into the tiers; None where it can't be kept."""
        if stamps is None or body is None:
            return None
        made = self._drafted(want, value, body, stamps)
        return msgspec.structs.replace(made, claim=claim, guard=guard, reach_l2=guard is not None)

    def _drafted(self, want: Wanted, value: object, body: Body, stamps: Stamps) -> Draft:
        fresh, usable = want.policy.lives(want.ttl, self._draw())
        return Draft(
            key=want.key,
            value=value,
            body=body,
            policy=want.policy,
            stamps=stamps,
            guard=None,
            claim=None,
            started=self._clock.monotonic(),
            born=self._clock.wall(),
            load_s=0.0,
            fresh=fresh,
            usable=usable,
        )


async def nothing() -> None:
    """The load of a value that is there already."""


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
