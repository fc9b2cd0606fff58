"""The read and write path: where L1 and L2 meet.

1. The generation is taken first: the view catches up with what other processes told, and the
   stamps of the entry's tags are read. 2. L1, then L2. 3. `decide` judges what was found.
4. Serve; or serve stale and refresh behind; or load, once for all who ask. 5. The result is stored
   under the stamps, the guard and the claim taken before the load began: a change that lands
   during the load makes it unreachable instead of stale.

An L1 hit is synchronous and takes no lock, task or timer. A broken L2 and an entry that does not
open are events and misses; a broken loader is the caller's error.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence

from querycache.cache.adopting import Adopter
from querycache.cache.claims import Claims
from querycache.cache.decide import Verdict, decide
from querycache.cache.examining import Examiner
from querycache.cache.generations import Generations
from querycache.cache.invalidating import Invalidator
from querycache.cache.loading import Answer, Load, Loading, LoadMany, Wanted, nothing
from querycache.cache.parts import Parts
from querycache.cache.past import Past
from querycache.cache.policy import Policy
from querycache.cache.reading import Reader
from querycache.cache.recovery import Recovery
from querycache.cache.refresh import Refresh
from querycache.cache.single_flight import SingleFlight
from querycache.cache.waiting import Limits
from querycache.cache.write_back import WriteBack
from querycache.cache.writing import Writer
from querycache.errors import LoadTimeoutError
from querycache.ports.codec import ANY, Body, Shape
from querycache.ports.journal import Journal
from querycache.ports.tally import Tally
from querycache.ports.tiers import Changes, Entry
from querycache.values import Kind

_NEVER_MASKED = (PermissionError,)
"""Failures that no stale value may hide."""


class TwoTier:
    """L1 in front of L2. All keys are full names in L2; policies say how each is kept."""

    def __init__(
        self,
        parts: Parts,
        limits: Limits = Limits(),  # noqa: B008 -- an immutable value
        journal: Journal | None = None,
    ) -> None:
        """`limits` and `journal` are of write-back."""
        self.l1, self.l2 = parts.l1, parts.l2
        self.tallies = {kind: Tally() for kind in Kind}
        self.generations = generations = Generations(parts.l2, parts.backplane, self._changed)
        claims, self.past = Claims(), Past(generations, parts.clock)
        self.recovery = Recovery(parts, generations, journal)
        self.write_back = WriteBack(parts, generations, claims, self.recovery, limits, journal)
        back, past = self.write_back, self.past
        self.writer = Writer(parts, generations, claims, self.recovery, back, past)
        self.flights: SingleFlight[Answer[object]] = SingleFlight(parts.clock)
        self._refresh = Refresh(self.flights)
        self._reader = Reader(parts, generations, claims, back, past)
        self._loading = Loading(parts, generations, self._reader, self.writer)
        self._invalidator = Invalidator(
            parts, generations, claims, self.recovery, back, self.flights, past
        )
        self.remove, self.invalidate = self._invalidator.remove, self._invalidator.invalidate
        self.leave_to_l2, self.names = self._invalidator.leave_to_l2, self._invalidator.names
        self._adopter = Adopter(parts, generations, journal, self.leave_to_l2)
        self.examiner = Examiner(parts, generations, claims)
        self._codec = parts.codec
        self._draw = parts.draw
        self._entries = parts.l1.entries
        self._hears_until = parts.backplane.hears_until
        self._now = parts.clock.monotonic
        self.hit, self._rebind = self._hit_path(parts)

    # --- reading -------------------------------------------------------------------------------

    def _hit_path(self, parts: Parts) -> tuple[Callable[[str], Entry | None], Callable[[], None]]:
        """`hit` as a closure, since attribute look-ups are a third of its cost; and what makes it
        look at the backplane's epoch anew.
        """
        backplane, generations, stands = parts.backplane, self.generations, self._stands
        epoch, touch = backplane.epoch, parts.l1.touch
        entry_of, now = parts.l1.entries.get, parts.clock.monotonic
        hears_until = backplane.hears_until

        def hit(key: str) -> Entry | None:
            """An entry of L1 that is served without a decision, counted; else None."""
            if epoch[0] != generations.seen and not generations.catch_up():
                return None
            entry = entry_of(key)
            if entry is None:
                return None
            at = now()
            if at >= entry.settled_until or at >= hears_until[0]:
                return None
            if entry.world != generations.world and not stands(entry):
                return None
            entry.hits += 1
            if touch is not None:
                touch(entry)
            entry.tally.l1_hits += 1
            return entry

        def rebind() -> None:
            nonlocal epoch
            epoch = backplane.epoch

        return hit, rebind

    def value(self, entry: Entry, shape: Shape = ANY) -> object:
        """What a reader of `entry` gets: a value that others can't change under it."""
        value = entry.value
        return self._codec.decode(value, shape) if isinstance(value, Body) else value

    async def get(self, key: str, policy: Policy) -> Answer[object]:
        """What the tiers hold; nothing is loaded."""
        entry = self.hit(key) or self._unsettled(key)
        if entry is not None:
            return self._served(entry, policy)
        tally = self.tallies[policy.kind]
        looked = await self._reader.look_at(key, policy, tally)
        return self._loading.found(key, looked, tally)

    async def get_many(self, keys: Sequence[str], policy: Policy) -> dict[str, Answer[object]]:
        """The same for many keys, L2 asked once; holds what was found."""
        found, missing = self._in_l1(keys, policy)
        if missing:
            tally = self.tallies[policy.kind]
            looks = await self._reader.look(missing, policy, tally)
            answers = (
                self._loading.found(key, looked, tally)
                for key, looked in zip(missing, looks, strict=True)
            )
            found.update(
                (key, answer) for key, answer in zip(missing, answers, strict=True) if answer.found
            )
        return found

    async def get_or_load(
        self,
        key: str,
        policy: Policy,
        load: Load,
        *,
        tags: tuple[str, ...] = (),
        ttl: float | None = None,
    ) -> Answer[object]:
        """What the tiers hold, or what `load` gives: once for all who ask meanwhile.

        Raises what `load` raises (unless a stale value can be served), `LoadTimeoutError`, and
        `ReentrantLoadError`.
        """
        entry = self.hit(key)
        if entry is not None:
            return self._served(entry, policy)
        want = Wanted(key, policy, self.tallies[policy.kind], load, tags, ttl)
        entry = self._unsettled(key)
        if entry is None:
            answer = await self._fly(want, self._loading.run, policy.hard_timeout)
            if answer.stale:  # L2 had a stale one, which L1 has now
                self._reload_behind(want)
            return answer
        now = self._now()
        verdict = decide(
            policy,
            fresh_left=entry.fresh_until - now,
            usable_left=entry.expires - now,
            load_s=entry.load_s,
            draw=1.0 - self._draw(),
        )
        if verdict is Verdict.SERVE_STALE and policy.soft_timeout:
            return await self._softly(entry, want, policy.soft_timeout)
        if verdict is not Verdict.SERVE:
            self._reload_behind(want)
        return self._served(entry, policy)

    async def get_or_load_many(
        self,
        keys: Sequence[str],
        policy: Policy,
        load: LoadMany,
        *,
        tags: tuple[str, ...] = (),
        to_l1: bool = True,
    ) -> dict[str, Answer[object]]:
        """The same for many keys: `load` is called at most once, with those that no tier holds,
        and may leave some out. Such loads are not joined with others. Without `to_l1` (a scan)
        what they bring does not displace what L1 holds.
        """
        found, missing = self._in_l1(keys, policy)
        if missing:
            tally = self.tallies[policy.kind]
            found |= await self._loading.run_many(
                missing, policy, tally, load, tags=tags, to_l1=to_l1
            )
        return found

    # --- writing -------------------------------------------------------------------------------

    async def put(
        self,
        values: Mapping[str, object],
        policy: Policy,
        *,
        tags: tuple[str, ...] = (),
        ttl: float | None = None,
    ) -> list[bool]:
        """Stores values; whether each can be had again. Raises `UnsupportedValueError`."""
        self.generations.catch_up()
        stamps = await self._loading.take(tags)
        if stamps is None:
            await self.remove(list(values))
            return [False] * len(values)
        tally = self.tallies[policy.kind]
        wants = [Wanted(key, policy, tally, nothing, tags, ttl) for key in values]
        bodies = [self._codec.encode(value, policy.shape) for value in values.values()]
        drafts = [
            self._loading.draft(want, value, stamps, body)
            for want, value, body in zip(wants, values.values(), bodies, strict=True)
        ]
        for key in values:
            self.flights.retire(key)
        kept = await self.writer.store(drafts, tally)
        refused = [key for key, done in zip(values, kept, strict=True) if not done]
        if refused:  # nothing old may stay where the new could not be kept
            await self.remove(refused)
        return kept

    async def flush(self) -> int:
        """Writes what waits to L2; how many entries it took."""
        return await self.write_back.flush()

    async def settle(self) -> bool:
        """Replays what L2 did not get, here or of dead processes, and pays what is owed; True when
        nothing is owed any more.
        """
        await self._adopter.turn()
        return await self.recovery.settle()

    async def close(self) -> int:
        """Ends this loop's loads; writes what waits, within a deadline; how many are left."""
        await self.flights.close()
        return await self.write_back.close()

    # --- parts ---------------------------------------------------------------------------------

    def _in_l1(
        self, keys: Sequence[str], policy: Policy
    ) -> tuple[dict[str, Answer[object]], list[str]]:
        found: dict[str, Answer[object]] = {}
        missing: list[str] = []
        for key in dict.fromkeys(keys):
            entry = self.hit(key) or self._unsettled(key)
            if entry is None:
                missing.append(key)
            else:
                found[key] = self._served(entry, policy)
        return found, missing

    def _stands(self, entry: Entry) -> bool:
        world = self.generations.world
        if self.generations.stand(entry.tags):
            entry.world = world
            return True
        self.l1.remove(entry.key)
        return False

    def _unsettled(self, key: str) -> Entry | None:
        """An entry of L1 that may be served, but wants a decision first; counted."""
        entry = self._entries.get(key)
        now = self._now()
        if entry is None or self.generations.bypass or now >= self._hears_until[0]:
            return None
        if now >= entry.expires:
            self.l1.remove(key)
            return None
        if not self._stands(entry):
            return None
        entry.hits += 1
        entry.tally.l1_hits += 1
        return entry

    def _served(self, entry: Entry, policy: Policy) -> Answer[object]:
        now = self._now()
        stale = now >= entry.fresh_until
        entry.tally.stale_hits += stale
        entry.tally.saved_s += entry.load_s
        return Answer(
            self.value(entry, policy.shape),
            found=True,
            tier="l1",
            age_s=max(0.0, now - entry.born),
            stale=stale,
            saved_s=entry.load_s,
        )

    async def _softly(self, entry: Entry, want: Wanted, patience: float) -> Answer[object]:
        """Waits a little for a reload; serves the stale entry where it takes longer or fails."""
        try:
            return await self._fly(want, self._reload, patience)
        except LoadTimeoutError:
            return self._served(entry, want.policy)
        except Exception as error:
            if isinstance(error, _NEVER_MASKED) or self._now() >= entry.expires:
                raise
            return self._served(entry, want.policy)

    async def _fly(
        self,
        want: Wanted,
        work: Callable[[Wanted], Coroutine[None, None, Answer[object]]],
        timeout: float | None,  # noqa: ASYNC109 -- passed on
    ) -> Answer[object]:
        """The answer of the flight for a key; who joins one gets a value of its own."""
        began = False

        def begin() -> Coroutine[None, None, Answer[object]]:
            nonlocal began
            began = True
            return work(want)

        answer = await self.flights.run(want.key, begin, want.tags, timeout)
        return answer if began else self._loading.for_another(answer, want.policy.shape)

    def _reload_behind(self, want: Wanted) -> None:
        self._refresh.behind(want.key, lambda: self._reload(want), want.tags)

    async def _reload(self, want: Wanted) -> Answer[object]:
        try:
            return await self._loading.run(want, reload=True)
        except _NEVER_MASKED:
            await self.remove([want.key])
            raise
        except Exception:
            entry = self._entries.get(want.key)
            if entry is not None:  # so that the origin is not hammered
                pause = self._now() + want.policy.throttle
                entry.settled_until = min(pause, entry.expires)
            raise

    def _changed(self, changes: Changes) -> None:
        if changes.lost:
            self._rebind()
        self._invalidator.hear(changes)
