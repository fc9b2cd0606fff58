"""Write-through: L2, then tell, then L1.

A claim guards the way into L1. Whoever is about to put something there claims the key first; a
change of the key that is heard of meanwhile, or another claim, voids it, and a void claim puts
nothing. Two overlapping writers of one key void each other: L1 stays empty, and L2 decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

import msgspec

from querycache.cache.filling import entry_for
from querycache.cache.generations import Generations, Stamps
from querycache.cache.parts import Parts
from querycache.cache.policy import Policy
from querycache.errors import TierError, UnsupportedValueError
from querycache.events import NotStored, RefusalReason, Stored, TierFailed
from querycache.ports.codec import Body, Record
from querycache.ports.tiers import Entry, Tally, Write


class Claims:
    """Which keys are on their way into L1. Safe under threads."""

    def __init__(self) -> None:
        self._slots: dict[str, _Slot] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._slots)

    def claim(self, key: str) -> object:
        """A claim on `key`; one that is under way is voided, and so is this one."""
        token = object()
        with self._lock:
            slot = self._slots.get(key)
            if slot is None:
                self._slots[key] = _Slot(token)
            else:
                slot.token = None
                slot.holders += 1
        return token

    def try_claim(self, key: str) -> object | None:
        """A claim for a back-fill of what L2 holds: gives way where another is under way."""
        with self._lock:
            if key in self._slots:
                return None
            token = object()
            self._slots[key] = _Slot(token)
            return token

    def redeem(self, key: str, token: object | None) -> bool:
        """Ends a claim; whether it still held."""
        with self._lock:
            return self._end(key, token)

    def land(self, key: str, token: object | None, put: Callable[[], object]) -> bool:
        """Ends a claim; whether it still held, and then `put` was called. A `void` comes before
        both or after both, so that who voids and then removes leaves nothing.
        """
        with self._lock:
            held = self._end(key, token)
            if held:
                put()
            return held

    def holds(self, key: str, token: object) -> bool:
        slot = self._slots.get(key)
        return slot is not None and slot.token is token

    def void(self, key: str) -> None:
        with self._lock:
            slot = self._slots.get(key)
            if slot is not None:
                slot.token = None

    def void_all(self) -> None:
        with self._lock:
            for slot in self._slots.values():
                slot.token = None

    def _end(self, key: str, token: object | None) -> bool:
        if token is None:
            return False
        slot = self._slots[key]
        slot.holders -= 1
        if not slot.holders:
            del self._slots[key]
        return slot.token is token


class _Slot:
    __slots__ = ("holders", "token")

    def __init__(self, token: object) -> None:
        self.token: object | None = token
        self.holders = 1


class Draft(msgspec.Struct, frozen=True):
    """A value on its way into the tiers.

    `stamps`, `guard` and `claim` were taken before its load began; `guard` is None for a caller's
    own write. Without `reach_l2` it stays in this process. `started` (monotonic) and `born` (wall)
    are the start of the load, in seconds.
    """

    key: str
    value: object
    body: Body
    policy: Policy
    stamps: Stamps
    guard: int | None
    claim: object
    started: float
    born: float
    load_s: float
    fresh: float
    usable: float
    reach_l2: bool = True


class WriteThrough:
    """Stores drafts in both tiers.

    Attributes:
        claims: What is on its way into L1.
        trouble: Why L2 refused the last write; "" where it took it.
    """

    def __init__(self, parts: Parts, generations: Generations) -> None:
        self.claims = Claims()
        self.trouble = ""
        self._l1 = parts.l1
        self._weigh = parts.weigh
        self._l2 = parts.l2
        self._codec = parts.codec
        self._clock = parts.clock
        self._observer = parts.observer
        self._generations = generations

    async def store(
        self, drafts: Sequence[Draft], tally: Tally, *, to_l1: bool = True
    ) -> list[bool]:
        """Whether each is remembered; False where the world moved during its load. Ends claims."""
        world = self._generations.world
        try:
            outcomes = await self._to_l2(drafts, tally)
        except BaseException:
            for draft in drafts:
                self._give_up(draft)
            raise
        done: list[bool] = []
        for draft, outcome in zip(drafts, outcomes, strict=True):
            alone = outcome is None  # only L1 can have it
            wanted = to_l1 and draft.policy.l1 and outcome is not False
            if wanted and alone:
                wanted = self._generations.stand(draft.stamps)
            kept = self._to_l1(draft, tally, world, wanted=wanted)
            done.append(kept if alone else bool(outcome))
        tally.sets += sum(done)
        return done

    def _give_up(self, draft: Draft) -> None:
        """Ends the claim of a draft whose write was cancelled: L2 may have it, or have it soon. A
        caller's own write is owed then, since the old value is no longer true.
        """
        self.claims.redeem(draft.key, draft.claim)
        self._l1.remove(draft.key)
        told = draft.policy.l2 and draft.reach_l2 and not draft.policy.immutable
        if told and draft.guard is None:
            self._generations.owe([draft.key])

    def _to_l1(self, draft: Draft, tally: Tally, world: int, *, wanted: bool) -> bool:
        """Ends a draft's claim; puts it into L1 if it is `wanted` there, and else nothing stays
        under its name. Whether it is there.
        """
        kept = False

        def put() -> None:
            nonlocal kept
            kept = self._l1.put(self._entry(draft, tally, world))

        fits = len(draft.body.data) <= draft.policy.max_l1_bytes
        if wanted and fits:
            held = self.claims.land(draft.key, draft.claim, put)
        else:
            held = self.claims.redeem(draft.key, draft.claim)
        if not kept:
            self._l1.remove(draft.key)
            if wanted and held:
                self._observer.emit(NotStored(draft.key, "too_big"))
        return kept

    def _entry(self, draft: Draft, tally: Tally, world: int) -> Entry:
        """A draft as L1 holds it, with what is left of its lives."""
        body, now = draft.body, self._clock.monotonic()
        age = now - draft.started
        return entry_for(
            draft.key,
            self._codec.share(draft.value, body) if body.shareable else body,
            policy=draft.policy,
            now=now,
            age=age,
            fresh_left=draft.fresh - age,
            usable_left=draft.usable - age,
            l1_life=self._generations.l1_life,
            load_s=draft.load_s,
            tags=draft.stamps,
            world=world,
            tally=tally,
            weight=self._weigh(draft.key, len(body.data)),
        )

    async def _to_l2(self, drafts: Sequence[Draft], tally: Tally) -> list[bool | None]:
        """For each: True stored, False refused (too big, or the world moved), None not for L2."""
        outcomes: list[bool | None] = [None] * len(drafts)
        writes: dict[int, Write] = {}
        for place, draft in enumerate(drafts):
            prepared = self._prepared(draft)
            if isinstance(prepared, Write):
                writes[place] = prepared
            else:
                outcomes[place] = prepared
        if not writes:
            return outcomes
        try:
            stored = await self._l2.write(list(writes.values()))
        except TierError as error:
            return self._failed(drafts, outcomes, list(writes), tally, error)
        self.trouble = ""
        for place, done in zip(writes, stored, strict=True):
            outcomes[place] = done
            if done:
                if self.claims.holds(drafts[place].key, drafts[place].claim):
                    self._generations.owed_keys.discard(drafts[place].key)
                self._told(drafts[place])
            else:
                self._refused(drafts[place], "invalidated_meanwhile")
        return outcomes

    def _prepared(self, draft: Draft) -> Write | bool | None:
        """A draft as L2 takes it; or its outcome, as in `_to_l2`."""
        if len(draft.body.data) > draft.policy.shape.max_bytes:
            return self._refused(draft, "too_big")
        if not (draft.policy.l2 and draft.reach_l2):
            self._told(draft)
            return None
        return self._sealed(draft) or self._refused(draft, "unsupported")

    def _sealed(self, draft: Draft) -> Write | None:
        """A draft as L2 takes it; None for what no envelope holds (tags or names beyond
        bounds).
        """
        record = Record(
            key=draft.key,
            body=draft.body,
            born=draft.born,
            fresh_until=draft.born + draft.fresh,
            expires_at=draft.born + draft.usable,
            load_s=draft.load_s,
            tags=draft.stamps,
        )
        try:
            data = self._codec.seal(record, draft.policy.shape)
        except UnsupportedValueError:
            return None
        tags = tuple(tag for tag, _ in draft.stamps)
        told = not draft.policy.immutable
        guard = draft.guard if told else None
        return Write(draft.key, data, record.expires_at, tags, guard, told)

    def _refused(self, draft: Draft, reason: RefusalReason) -> bool:
        self._observer.emit(NotStored(draft.key, reason))
        return False

    def _failed(
        self,
        drafts: Sequence[Draft],
        outcomes: list[bool | None],
        places: list[int],
        tally: Tally,
        error: TierError,
    ) -> list[bool | None]:
        """L2 failed: what it still holds of these keys may be old: it is masked and owed."""
        tally.errors += 1
        self.trouble = str(error)
        self._observer.emit(TierFailed(drafts[places[0]].key, self._l2.name, "write", str(error)))
        for place in places:
            self._observer.emit(NotStored(drafts[place].key, "l2_down"))
            if not drafts[place].policy.immutable:
                self._generations.owe([drafts[place].key])
        return outcomes

    def _told(self, draft: Draft) -> None:
        self._observer.emit(Stored(draft.key, len(draft.body.data), draft.usable))
