"""L1 in this process, under every policy."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from random import Random

import pytest
from tests.behaviour.l1_suite import LARGE, L1Suite, check, drain, made

from querycache.ports.tiers import L1, Entry
from querycache.tiers.eviction import POLICIES, Fifo, Policy
from querycache.tiers.memory import ENTRY_OVERHEAD, MemoryTier, weigh


class PolicySuite(L1Suite):
    policy = ""

    def make(self, max_entries: int, max_bytes: int = LARGE) -> L1:
        chance = Random(7)  # noqa: S311 -- the same choices in every run
        return MemoryTier(
            max_entries=max_entries, max_bytes=max_bytes, policy=self.policy, rng=chance
        )

    def test_endless_replacement_takes_no_memory(self) -> None:
        l1 = self.make(3)
        for key in "ab":
            l1.put(made(key))
        tracemalloc.start()
        try:
            for _ in range(20_000):
                l1.put(made("a"))
            assert tracemalloc.get_traced_memory()[0] < 60_000
        finally:
            tracemalloc.stop()
        drain(l1)

    def test_info_names_the_policy(self) -> None:
        assert self.make(1).info().policy == self.policy


class TestAdaptive(PolicySuite):
    policy = "ADAPTIVE"


class TestS3Fifo(PolicySuite):
    policy = "S3FIFO"


class TestLru(PolicySuite):
    policy = "LRU"


class TestLfu(PolicySuite):
    policy = "LFU"


class TestFifo(PolicySuite):
    policy = "FIFO"


class TestRandom(PolicySuite):
    policy = "RANDOM"


def test_every_policy_runs_the_suite():
    assert {suite.policy for suite in PolicySuite.__subclasses__()} == POLICIES.keys()


def test_only_lru_wants_to_hear_of_hits():
    told = {
        name
        for name in POLICIES
        if MemoryTier(max_entries=1, max_bytes=1, policy=name).touch is not None
    }
    assert told == {"LRU"}


def test_an_unknown_policy_is_refused():
    with pytest.raises(KeyError):
        MemoryTier(max_entries=1, max_bytes=1, policy="CLAIRVOYANT")


def test_room_for_nothing_holds_nothing():
    l1 = MemoryTier(max_entries=0, max_bytes=LARGE)
    assert not l1.put(made("a"))
    assert not l1.entries
    assert l1.sweep(0.0) == l1.shed(1.0) == l1.clear() == 0


def test_the_listener_hears_of_evictions_and_of_nothing_else():
    gone: list[Entry] = []
    l1 = MemoryTier(max_entries=2, max_bytes=LARGE, policy="FIFO", on_evict=gone.append)
    first, second, third = made("a"), made("b", expires=1.0), made("c")
    for entry in (first, second, third):
        l1.put(entry)
    assert gone == [first]
    l1.sweep(1.0)
    l1.put(made("c"))
    l1.remove("c")
    l1.clear()
    assert gone == [first]
    fourth = made("d")
    l1.put(fourth)
    l1.shed(1.0)
    assert gone == [first, fourth]


def test_the_listener_may_come_back():
    heard: list[int] = []

    def listen(entry: Entry) -> None:
        heard.append(l1.info().size)
        if entry.key == "a":
            l1.put(made("kept"))

    l1 = MemoryTier(max_entries=1, max_bytes=LARGE, policy="FIFO", on_evict=listen)
    l1.put(made("a"))
    l1.put(made("b"))
    assert list(l1.entries) == ["kept"]
    assert heard == [1, 1]


def test_a_sweep_with_a_limit_does_bounded_work():
    """Of many live entries it looks at 64 for each that it may drop, and goes on there."""
    l1 = MemoryTier(max_entries=1_000, max_bytes=LARGE)
    l1.put(made("old", expires=1.0))  # swept from the last to the first
    for i in range(999):
        l1.put(made(f"k{i}"))
    calls = next(call for call in range(1, 100) if l1.sweep(2.0, 1))
    assert calls == -(-1_000 // 64)
    drain(l1)


def test_an_entry_that_took_the_name_meanwhile_survives_the_sweep():
    l1 = MemoryTier(max_entries=10, max_bytes=LARGE)
    for key in "abc":
        l1.put(made(key, expires=1.0))
    assert l1.sweep(2.0, 1) == 1
    for key in "abc":
        l1.put(made(key, expires=9.0))
    assert l1.sweep(2.0) == 0
    assert l1.info().size == 3
    check(l1)


class Late(float):
    """A time that lets something happen when it is compared."""

    happening: Callable[[], object]

    def __le__(self, other: float, /) -> bool:
        self.happening()
        return super().__le__(other)


def test_an_entry_that_takes_the_name_during_the_sweep_survives():
    l1, new, expires = MemoryTier(max_entries=3, max_bytes=LARGE), made("a"), Late(1.0)
    expires.happening = lambda: l1.put(new)
    l1.put(made("a", expires=expires))
    assert l1.sweep(2.0) == 0
    assert l1.entries.get("a") is new
    drain(l1)


def test_weight_is_name_and_value_and_overhead():
    assert weigh("name", 100) == ENTRY_OVERHEAD + 4 + 100


class Starving(Fifo):
    """A policy that finds no memory, now and then, in the middle of its work."""

    def __init__(self, rng: Random) -> None:
        super().__init__()
        self.rng = rng

    def admit(self, entry: Entry) -> None:
        if self.rng.random() < 0.1:
            raise MemoryError
        super().admit(entry)

    def victim(self) -> Entry:
        found = super().victim()
        if self.rng.random() < 0.1:
            raise MemoryError
        return found


def test_where_memory_runs_out_it_stays_whole(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(dict_of_policies(), "STARVING", lambda _n, _b, rng: Starving(rng))
    chance = Random(3)  # noqa: S311 -- the same failures in every run
    l1 = MemoryTier(max_entries=20, max_bytes=500, policy="STARVING", rng=chance)
    outcomes: set[bool] = set()
    for turn in range(2_000):
        kept = l1.put(made(f"k{chance.randrange(40)}", chance.randrange(1, 60)))
        outcomes.add(kept)
        if turn % 50 == 0:
            l1.shed(0.3)
            l1.limit(0.5)
            l1.limit(1.0)
        check(l1)
    assert outcomes == {True, False}


def dict_of_policies() -> dict[str, Callable[[int, int, Random], Policy]]:
    assert isinstance(POLICIES, dict)
    return POLICIES


def test_a_limit_lets_others_in_between():
    """It takes the lock for some hundred evictions at a time."""
    told: list[int] = []
    l1 = MemoryTier(
        max_entries=2_000, max_bytes=LARGE, on_evict=lambda _: told.append(l1.info().size)
    )
    for i in range(2_000):
        l1.put(made(f"k{i}"))
    assert l1.limit(0.1) == 1_800
    assert len(set(told)) == -(-1_800 // 256)
    check(l1)


@pytest.mark.parametrize("policy", ["ADAPTIVE", "S3FIFO"])
def test_the_queues_shrink_and_grow_with_the_bounds(policy: str):
    """A tenth of the bounds in force is for what is new, so that a scan displaces nothing else."""
    l1 = MemoryTier(max_entries=1_000, max_bytes=LARGE, policy=policy)
    for i in range(1_000):
        l1.put(made(f"k{i}"))
    for i in range(50):
        l1.entries[f"k{i}"].hits += 3
    l1.limit(0.1)
    for i in range(300):
        l1.put(made(f"scan{i}"))
    assert sum(f"k{i}" in l1.entries for i in range(50)) >= 45
    l1.limit(1.0)
    for i in range(2_000):
        l1.put(made(f"more{i}"))
    assert l1.info().size == 1_000
    drain(l1)
