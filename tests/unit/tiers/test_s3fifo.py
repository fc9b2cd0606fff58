"""S3-FIFO and the policy that adapts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain, count, islice
from random import Random

import pytest
from tests.behaviour.l1_suite import LARGE, ask, made

from querycache.tiers.memory import MemoryTier
from querycache.tiers.s3fifo import NEVER, Adaptive, Ghosts, Queue, S3Fifo


def ratio(policy: str, capacity: int, keys: Iterable[object]) -> float:
    """The hit ratio of a replay."""
    return ratio_in(MemoryTier(max_entries=capacity, max_bytes=LARGE, policy=policy), keys)


def ratio_in(l1: MemoryTier, keys: Iterable[object]) -> float:
    accesses = hits = 0
    for key in keys:
        accesses += 1
        if ask(l1, str(key)) is not None:
            hits += 1
        else:
            l1.put(made(str(key)))
    return hits / accesses


def test_a_queue_is_first_in_first_out_whatever_it_loses():
    queue, chance, expected = Queue(), Random(2), list[str]()  # noqa: S311 -- a stated order
    entries = {f"k{i}": made(f"k{i}", i) for i in range(3_000)}
    for key, entry in entries.items():
        queue.push(entry)
        expected.append(key)
        if chance.random() < 0.7:
            lost = expected.pop(chance.randrange(len(expected)))
            queue.discard(entries[lost])
        if chance.random() < 0.1 and expected:
            assert queue.pop().key == expected.pop(0)
        assert queue.count == len(expected)
    assert queue.bytes == sum(entries[key].weight for key in expected)
    assert [queue.pop().key for _ in range(queue.count)] == expected


def test_a_queue_knows_what_it_holds():
    ours, theirs, entry, other = Queue(), Queue(), made("a"), made("b")
    ours.push(entry)
    theirs.push(other)
    assert ours.holds(entry)
    assert not theirs.holds(entry)
    assert not ours.holds(made("c"))


def test_ghosts_know_how_long_ago():
    ghosts = Ghosts(4)
    for i in range(20):
        ghosts.add(f"k{i}", 20)
    assert ghosts.take("k19") == 0
    assert ghosts.take("k15") in {4, NEVER}  # another name may have taken its slot
    assert ghosts.take("k19") == NEVER
    assert ghosts.take("stranger") == NEVER
    ghosts.clear()
    assert ghosts.take("k18") == NEVER


def test_ghosts_remember_most_of_the_recent_past():
    ghosts = Ghosts(3)
    for i in range(10_000):
        ghosts.add(f"k{i}", 1_000)
    known = sum(ghosts.take(f"k{i}") < 1_000 for i in range(9_000, 10_000))
    assert 800 < known <= 1_000
    assert sum(ghosts.take(f"new{i}") != NEVER for i in range(10_000)) <= 1


@pytest.mark.parametrize("policy", [S3Fifo, Adaptive])
def test_what_was_not_hit_goes_first(policy: Callable[[int, int], S3Fifo]):
    queues = policy(10, LARGE)
    entries = [made(f"k{i}") for i in range(9)]
    for entry in entries:
        queues.admit(entry)
    for entry in entries[:6]:
        entry.hits = 2
    assert [queues.victim().key for _ in range(2)] == ["k6", "k7"]


def test_what_comes_back_soon_is_known():
    queues = S3Fifo(10, LARGE)
    for i in range(10):
        queues.admit(made(f"k{i}"))
    first = queues.victim()
    queues.admit(first)  # to the main queue
    assert first.key == "k0"
    assert [queues.victim().key for _ in range(8)] == [f"k{i}" for i in range(1, 9)]
    assert queues.victim() is first  # the small queue is down to its share


def test_hits_buy_rounds_in_the_main_queue_but_not_for_ever():
    queues = S3Fifo(10, LARGE)
    loved = made("loved")
    loved.hits = 1_000
    queues.admit(loved)
    for i in range(20):
        other = made(f"k{i}")
        other.hits = 1
        queues.admit(other)
    went = [queues.victim() for _ in range(21)]
    assert went.index(loved) == 20


def test_a_large_value_does_not_hold_the_small_queue():
    """In bytes, too, the small queue keeps to its share."""
    l1 = MemoryTier(max_entries=1_000, max_bytes=1_000, policy="S3FIFO")
    for i in range(9):
        l1.put(made(f"hot{i}", 100))
        ask(l1, f"hot{i}")
    for i in range(50):
        l1.put(made(f"scan{i}", 50))
    assert sum(f"hot{i}" in l1.entries for i in range(9)) == 8


@pytest.mark.parametrize("policy", ["S3FIFO", "ADAPTIVE"])
def test_a_scan_leaves_the_working_set(policy: str):
    working = [f"w{i % 80}" for i in range(800)]
    scan = [f"s{i}" for i in range(5_000)]
    l1 = MemoryTier(max_entries=100, max_bytes=LARGE, policy=policy)
    for key in working + scan:
        if ask(l1, key) is None:
            l1.put(made(key))
    assert sum(f"w{i}" in l1.entries for i in range(80)) >= 75


def returning(number: int, lag: float) -> list[int]:
    """Each key twice, the second time about `lag` keys later, and then never again."""
    chance = Random(4)  # noqa: S311 -- the same trace in every run
    second = ((key + chance.expovariate(1 / lag), key) for key in range(number))
    first = ((float(key), key) for key in range(number))
    return [key for _, key in sorted(chain(first, second))]


def test_it_adapts_to_recency():
    """Where only the recent past tells, it is near LRU, and S3-FIFO far below."""
    keys = returning(40_000, 300)
    least_recent, fixed, adaptive = (
        ratio(policy, 1_000, keys) for policy in ("LRU", "S3FIFO", "ADAPTIVE")
    )
    assert adaptive > least_recent - 0.03
    assert adaptive > fixed + 0.15


def test_it_adapts_back():
    """After recency comes a skewed world, and then it is no worse than S3-FIFO."""
    chance = Random(5)  # noqa: S311 -- the same trace in every run
    skewed = [int(chance.paretovariate(0.7)) for _ in range(60_000)]
    mixed = [*(f"r{key}" for key in returning(20_000, 300)), *skewed]
    assert ratio("ADAPTIVE", 500, mixed) > ratio("S3FIFO", 500, mixed)


def test_it_keeps_a_part_of_a_loop_that_is_too_large():
    loop = [i % 500 for i in range(20_000)]
    assert ratio("LRU", 200, loop) == 0.0
    assert ratio("ADAPTIVE", 200, loop) > 0.2  # the optimum is 0.4


def test_after_a_clear_it_begins_anew():
    l1 = MemoryTier(max_entries=200, max_bytes=LARGE, policy="ADAPTIVE")
    loop = [i % 1_000 for i in range(4_000)]
    first = ratio_in(l1, loop)
    l1.clear()
    assert ratio_in(l1, loop) == pytest.approx(first, abs=0.02)
    assert first > 0.1


def test_a_dead_main_queue_gives_way_to_a_loop():
    """What was loved and is never asked for again doesn't stay for ever."""
    l1 = MemoryTier(max_entries=200, max_bytes=LARGE, policy="ADAPTIVE")
    for key in (f"old{i % 180}" for i in range(2_000)):
        if ask(l1, key) is None:
            l1.put(made(key))
    loop = (f"new{i % 1_000}" for i in count())
    for key in islice(loop, 40_000):
        if ask(l1, key) is None:
            l1.put(made(key))
    assert sum(key.startswith("old") for key in l1.entries) == 0
    hits = sum(ask(l1, key) is not None for key in islice(loop, 1_000))
    assert hits > 100
