"""L1 against a dict with a clock: nothing is lost but what was evicted, and the bounds hold."""

from __future__ import annotations

from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.behaviour.l1_suite import ask, check, made

from querycache.ports.tiers import Entry
from querycache.tiers.eviction import POLICIES
from querycache.tiers.memory import MemoryTier

KEYS = st.integers(0, 30).map(str)
MOST_ENTRIES = 12
MOST_BYTES = 100


class Bounds(RuleBasedStateMachine):
    """The model is told what was evicted; all else it foresees."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.model: dict[str, Entry] = {}
        self.evicted = 0
        self.share, self.room, self.admits = 1.0, 1.0, True
        self.l1 = MemoryTier(max_entries=MOST_ENTRIES, max_bytes=MOST_BYTES)

    @initialize(policy=st.sampled_from(sorted(POLICIES)), seed=st.integers(0, 1_000))
    def start(self, policy: str, seed: int) -> None:
        self.l1 = MemoryTier(
            max_entries=MOST_ENTRIES,
            max_bytes=MOST_BYTES,
            policy=policy,
            on_evict=self.on_evict,
            rng=Random(seed),  # noqa: S311 -- drawn by hypothesis
        )

    def on_evict(self, entry: Entry) -> None:
        assert self.model.pop(entry.key) is entry
        self.evicted += 1

    @rule(key=KEYS, weight=st.integers(1, 120), life=st.integers(1, 20))
    def put(self, key: str, weight: int, life: int) -> None:
        entry = made(key, weight, expires=self.now + life)
        old = self.model.pop(key, None)
        others = sum(kept.weight for kept in self.model.values())
        most, largest = self.bounds()
        room = len(self.model) < most and others + weight <= largest
        fits = weight <= largest and most > 0 and self.admits
        before = self.evicted
        assert self.l1.put(entry) == fits
        if fits:
            self.model[key] = entry
            assert entry.hits == (old.hits if old else 0)
        assert (self.evicted > before) == (fits and not room)

    @rule(key=KEYS)
    def ask(self, key: str) -> None:
        assert ask(self.l1, key) is self.model.get(key)

    @rule(key=KEYS)
    def remove(self, key: str) -> None:
        assert self.l1.remove(key) is self.model.pop(key, None)

    @rule(seconds=st.integers(0, 8))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def sweep(self) -> None:
        expired = [key for key, entry in self.model.items() if entry.expires <= self.now]
        assert self.l1.sweep(self.now) == len(expired)
        for key in expired:
            del self.model[key]

    @rule(limit=st.integers(1, 3))
    def sweep_some(self, limit: int) -> None:
        dropped = self.l1.sweep(self.now, limit)
        gone = self.model.keys() - self.l1.entries.keys()
        assert dropped == len(gone) <= limit
        for key in gone:
            assert self.model.pop(key).expires <= self.now

    @rule(share=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    def shed(self, share: float) -> None:
        held = self.l1.info().bytes
        before = self.evicted
        assert self.l1.shed(share) == self.evicted - before
        assert self.l1.info().bytes <= held * (1 - share)

    @rule(
        share=st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]),
        room=st.sampled_from([0.1, 0.5, 1.0]),
        admit=st.booleans(),
    )
    def limit(self, share: float, room: float, admit: bool) -> None:  # noqa: FBT001 -- hypothesis names them
        before = self.evicted
        self.share, self.room, self.admits = share, room, admit
        assert self.l1.limit(share, room=room, admit=admit) == self.evicted - before
        most, largest = self.bounds()
        info = self.l1.info()
        assert info.size <= most
        assert info.bytes <= largest
        assert info.admits == (admit and most > 0)

    def bounds(self) -> tuple[int, int]:
        return int(MOST_ENTRIES * self.share), int(MOST_BYTES * min(self.share, self.room))

    @rule()
    def clear(self) -> None:
        assert self.l1.clear() == len(self.model)
        self.model.clear()

    @invariant()
    def the_books_are_right(self) -> None:
        check(self.l1)
        assert dict(self.l1.entries) == self.model
        assert self.l1.info().evictions == self.evicted

    def teardown(self) -> None:
        """Every entry can be evicted, and nothing else can: no orphans in the policy."""
        held = len(self.model)
        assert self.l1.shed(1.0) == held
        assert not self.model
        self.limit(1.0, 1.0, admit=True)
        self.put("0", 1, 1)
        assert self.l1.shed(1.0) == 1


Bounds.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestBounds = Bounds.TestCase
