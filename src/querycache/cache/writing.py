"""Writes: L2, then tell, then L1; or, as the policy says, L2 alone, or L1 now and L2 behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from querycache.cache.claims import Claims
from querycache.cache.drafts import LOCAL, Draft, sealed
from querycache.cache.filling import entry_for
from querycache.cache.generations import Generations
from querycache.cache.parts import Parts
from querycache.cache.past import Past
from querycache.cache.recovery import Recovery
from querycache.cache.waiting import Waiting
from querycache.cache.write_back import WriteBack
from querycache.errors import TierError
from querycache.events import NotStored, RefusalReason, Stored, TierFailed
from querycache.ports.tally import Tally
from querycache.ports.tiers import Entry, Write


class Writer:
    """Stores drafts in both tiers.

    Attributes:
        claims: What is on its way into L1.
    """

    def __init__(
        self,
        parts: Parts,
        generations: Generations,
        claims: Claims,
        recovery: Recovery,
        back: WriteBack,
        past: Past,
    ) -> None:
        self.claims = claims
        self._back = back
        self._past = past
        self._recovery = recovery
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
        await self._ready(drafts, tally)
        world = self._generations.world
        prepared = [self._prepared(draft) for draft in drafts]
        waiting = self._have_wait(drafts, prepared)
        for place in waiting:
            self._to_l1(drafts[place], tally, world, wanted=to_l1 and drafts[place].policy.l1)
            self._told(drafts[place])
        try:
            outcomes = await self._to_l2(drafts, prepared, waiting, tally)
        except BaseException:
            for place, draft in enumerate(drafts):
                if place not in waiting:
                    self._give_up(draft)
            raise
        done: list[bool] = []
        for place, (draft, outcome) in enumerate(zip(drafts, outcomes, strict=True)):
            if place in waiting:
                done.append(outcome is not False)
                continue
            wanted = to_l1 and draft.policy.l1 and self._belongs(draft, outcome)
            kept = self._to_l1(draft, tally, world, wanted=wanted)
            done.append(kept if outcome is None else outcome)
        tally.sets += sum(done)
        return done

    async def _ready(self, drafts: Sequence[Draft], tally: Tally) -> None:
        """Learns what the drafts are sealed with; what can't be learnt, sealing tells."""
        pending = self._codec.prepare([draft.key for draft in drafts if draft.policy.l2])
        if pending is None:
            return
        try:
            await pending
        except TierError:
            tally.errors += 1
        except BaseException:
            for draft in drafts:
                self._give_up(draft)
            raise

    def _belongs(self, draft: Draft, outcome: bool | None) -> bool:  # noqa: FBT001 -- as in `_to_l2`
        """Whether a draft of this outcome belongs into L1. A tag may have moved during its load:
        the guard, which is the key's, did not see it.
        """
        if outcome is False or not self._generations.stand(draft.stamps):
            return False
        return outcome is None or draft.policy.strategy != "WRITE_AROUND"

    def _have_wait(
        self, drafts: Sequence[Draft], prepared: list[Write | bool | None]
    ) -> dict[int, Waiting]:
        """Has what may be written behind wait, and says of the others in `prepared` what is to
        be done.
        """
        waiting: dict[int, Waiting] = {}
        if any(draft.policy.strategy == "WRITE_BACK" for draft in drafts):
            self._generations.catch_up()  # L2 is not there to refuse what was changed meanwhile
        for place, draft in enumerate(drafts):
            write = prepared[place]
            if draft.policy.strategy == "WRITE_BACK" and isinstance(write, Write):
                item, prepared[place] = self._wait(draft, write)
                if item is not None:
                    waiting[place] = item
        return waiting

    def _wait(self, draft: Draft, write: Write) -> tuple[Waiting | None, Write | bool]:
        """Has a write wait; else it is to go through (the queue is full, or the channel lost), or
        False: the world moved during its load.
        """
        key, own, local = draft.key, draft.guard is None, draft.guard == LOCAL
        older = self._back.queue.items.get(key)
        if local:
            write = msgspec.structs.replace(write, guard=older.write.guard if older else None)
        stands = own or self.claims.holds(key, draft.claim)
        stands = stands and self._generations.stand(draft.stamps)
        item = None
        if stands and not (local and older is None):
            item = self._back.add(write, draft.stamps)
        if item is not None and (own or self.claims.holds(key, draft.claim)):
            return item, write
        if item is not None:  # news just came
            self._back.changed_elsewhere(key)
        elif local and write.tell:  # what waited may have gone for it
            self._generations.owe([key] if key not in self._back.queue.items else [])
        elif own or older is None:
            return None, write
        return None, self._refused(draft, "invalidated_meanwhile")

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
                short = not self._l1.info().admits
                self._observer.emit(NotStored(draft.key, "memory_short" if short else "too_big"))
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

    async def _to_l2(
        self,
        drafts: Sequence[Draft],
        prepared: Sequence[Write | bool | None],
        waiting: Mapping[int, Waiting],
        tally: Tally,
    ) -> list[bool | None]:
        """For each: True stored (or waiting), False refused (too big, or the world moved), None
        not for L2.
        """
        recorded = await self._back.record(list(waiting.values()))
        outcomes: list[bool | None] = []
        writes: dict[int, Write] = {}
        for place, write in enumerate(prepared):
            item = waiting.get(place)
            if item is not None and (recorded or not self._back.queue.drop_if(item)):
                outcomes.append(True)
            elif isinstance(write, Write):
                outcomes.append(None)
                writes[place] = write
            else:
                outcomes.append(write)
        if not writes:
            return outcomes
        stored = await self._through(drafts, writes)
        tally.errors += None in stored
        for place, done in zip(writes, stored, strict=True):
            outcomes[place] = done
            if done is not None:
                self._settled(drafts[place], done=done, waited=place in waiting)
        return outcomes

    async def _through(
        self, drafts: Sequence[Draft], writes: Mapping[int, Write]
    ) -> Sequence[bool | None]:
        """Whether L2 took each; None where it failed, and they are kept for when it is back."""
        older = {  # nothing older may follow a caller's own write
            write.key: self._back.overtake(write.key)
            for place, write in writes.items()
            if drafts[place].guard is None
        }
        stored: Sequence[bool | None]
        try:
            stored = await self._l2.write(list(writes.values()))
            self._recovery.trouble = ""
        except TierError as error:
            await self._back.record(self._failed(drafts, writes, error))
            stored = [None] * len(writes)
        for key, number in older.items():
            self._back.done(key, number)
        return stored

    def _settled(self, draft: Draft, *, done: bool, waited: bool) -> None:
        """L2 took a draft, or refused it."""
        if not done:
            self._l1.remove(draft.key)
            self._refused(draft, "invalidated_meanwhile")
            return
        if waited or self.claims.holds(draft.key, draft.claim):
            self._generations.owed_keys.discard(draft.key)
            self._recovery.forget(draft.key)
        self._told(draft)

    def _prepared(self, draft: Draft) -> Write | bool | None:
        """A draft as L2 takes it; or its outcome, as in `_to_l2`."""
        if len(draft.body.data) > draft.policy.shape.max_bytes:
            return self._refused(draft, "too_big")
        if not (draft.policy.l2 and (draft.reach_l2 or draft.policy.immutable)):
            self._told(draft)
            return None
        try:
            write = sealed(draft, self._codec)
        except TierError as error:
            return self._unsealed(draft, error)
        if write is None:
            return self._refused(draft, "unsupported")
        if not draft.reach_l2:  # L2 was down when its load began
            self._recovery.keep(write, draft.stamps)
            self._told(draft)
            return None
        return write

    def _unsealed(self, draft: Draft, error: TierError) -> None:
        """It can't be sealed, so it does not reach L2, where what is older is no longer true; nor
        is what waits.
        """
        self._recovery.trouble = str(error)
        self._observer.emit(TierFailed(draft.key, self._l2.name, "seal", str(error)))
        self._observer.emit(NotStored(draft.key, "l2_down"))
        if not draft.policy.immutable:
            self._generations.owe([draft.key])
            if draft.guard is None:
                self._back.forget(draft.key)
                self._recovery.forget(draft.key)

    def _refused(self, draft: Draft, reason: RefusalReason) -> bool:
        self._observer.emit(NotStored(draft.key, reason))
        return False

    def _failed(
        self, drafts: Sequence[Draft], writes: Mapping[int, Write], error: TierError
    ) -> list[Waiting]:
        """L2 failed: what it still holds of these keys may be old. The writes are kept for when it
        is back; those that a journal promises are returned.
        """
        promised: list[Waiting] = []
        self._recovery.trouble = str(error)
        first = next(iter(writes.values()))
        self._observer.emit(TierFailed(first.key, self._l2.name, "write", str(error)))
        for place, write in writes.items():
            self._observer.emit(NotStored(write.key, "l2_down"))
            guard = write.guard
            if write.tell and drafts[place].guard is None:
                guard = self._l2.witnessed(write.key)
            kept = msgspec.structs.replace(write, guard=guard)
            item = self._recovery.keep(kept, drafts[place].stamps)
            if item is not None and drafts[place].policy.strategy == "WRITE_BACK":
                promised.append(item)
        return promised

    def _told(self, draft: Draft) -> None:
        policy = draft.policy
        life = draft.usable if policy.l2 else min(draft.usable, policy.l1_ttl)
        self._past.note(draft.key, policy.kind, draft.started + life, draft.stamps)
        self._observer.emit(Stored(draft.key, len(draft.body.data), draft.usable))
