"""What every L1 promises, whatever its policy."""

from __future__ import annotations

import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import inf
from random import Random

from querycache.ports.tally import Tally
from querycache.ports.tiers import L1, Entry

LARGE = 1 << 40


def made(key: str, weight: int = 1, *, value: object = None, expires: float = inf) -> Entry:
    return Entry(
        key, value, expires=expires, fresh_until=expires, born=0.0, tally=Tally(), weight=weight
    )


def ask(l1: L1, key: str) -> Entry | None:
    """A look-up as the port tells readers to do it."""
    entry = l1.entries.get(key)
    if entry is not None:
        entry.hits += 1
        if l1.touch is not None:
            l1.touch(entry)
    return entry


def check(l1: L1) -> None:
    """The books are right and the bounds hold."""
    info = l1.info()
    assert info.size == len(l1.entries) <= int(info.max_size * info.share)
    assert info.bytes == sum(entry.weight for entry in l1.entries.values())
    assert info.bytes <= int(info.max_bytes * info.share)
    assert all(entry.key == key for key, entry in l1.entries.items())


def drain(l1: L1) -> None:
    """Every entry that is held can be evicted, and nothing else can: no orphans in the policy."""
    check(l1)
    size = l1.info().size
    assert l1.shed(1.0) == size
    assert not l1.entries
    assert l1.put(made("last"))
    assert l1.shed(1.0) == 1
    check(l1)


def run(work: Callable[[int], None], count: int) -> None:
    """Runs `work(i)` in `count` threads to the end, which change places often; what one raises,
    this raises.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(count) as pool:
            for done in [pool.submit(work, i) for i in range(count)]:
                done.result(25)
    finally:
        sys.setswitchinterval(interval)


def disturb(l1: L1, key: str, turn: int, chance: float) -> None:
    """Now and then, one of the other ways out."""
    if chance < 0.05:
        l1.remove(key)
    elif chance < 0.06:
        l1.sweep(float(turn), 3)
    elif chance < 0.062:
        l1.shed(0.3)
    elif chance < 0.0625:
        l1.clear()
    elif chance < 0.065:
        l1.limit(0.5)
    elif chance < 0.07:
        l1.limit(1.0)


class L1Suite(ABC):
    """Inherit, and say how to make one."""

    @abstractmethod
    def make(self, max_entries: int, max_bytes: int = LARGE) -> L1:
        """An empty tier."""

    def test_what_was_put_is_found(self) -> None:
        l1, entry = self.make(3), made("a")
        assert l1.put(entry)
        assert l1.entries.get("a") is entry
        assert l1.entries.get("b") is None
        drain(l1)

    def test_a_replacement_takes_the_whole_place(self) -> None:
        l1 = self.make(3, 100)
        assert l1.put(made("a", 70))
        new = made("a", 90)
        assert l1.put(new)
        assert l1.entries.get("a") is new
        assert l1.info().bytes == 90
        assert l1.info().evictions == 0
        drain(l1)

    def test_a_replacement_inherits_the_hits(self) -> None:
        l1 = self.make(3)
        assert l1.put(made("a"))
        ask(l1, "a")
        new = made("a")
        assert l1.put(new)
        assert new.hits == 1
        drain(l1)

    def test_the_same_entry_can_be_put_again(self) -> None:
        l1, entry = self.make(2), made("a", 5)
        assert l1.put(entry)
        assert l1.put(entry)
        assert l1.info().bytes == 5
        drain(l1)

    def test_entries_are_bounded(self) -> None:
        l1 = self.make(10)
        for i in range(100):
            assert l1.put(made(f"k{i}"))
            check(l1)
        assert l1.info().size == 10
        assert l1.info().evictions == 90
        drain(l1)

    def test_bytes_are_bounded(self) -> None:
        l1, chance = self.make(1_000, 500), Random(1)  # noqa: S311 -- the same weights in every run
        for i in range(300):
            assert l1.put(made(f"k{i}", chance.randrange(1, 500)))
            check(l1)
        drain(l1)

    def test_a_growing_replacement_evicts_others(self) -> None:
        l1 = self.make(10, 100)
        for key in "abcde":
            assert l1.put(made(key, 20))
        assert l1.put(made("c", 81))
        assert list(l1.entries) == ["c"]
        drain(l1)

    def test_what_fits_exactly_is_taken(self) -> None:
        l1 = self.make(3, 100)
        assert l1.put(made("a", 100))
        assert l1.put(made("b", 100))
        assert list(l1.entries) == ["b"]
        drain(l1)

    def test_what_can_never_fit_is_refused(self) -> None:
        l1 = self.make(3, 100)
        assert l1.put(made("a", 60))
        assert not l1.put(made("b", 101))
        assert list(l1.entries) == ["a"]
        assert l1.info().rejected == 1
        drain(l1)

    def test_a_refused_replacement_leaves_no_old_value(self) -> None:
        l1 = self.make(3, 100)
        assert l1.put(made("a", 60))
        assert not l1.put(made("a", 101))
        assert l1.entries.get("a") is None
        assert l1.info().bytes == 0
        drain(l1)

    def test_remove_gives_the_entry(self) -> None:
        l1, entry = self.make(3), made("a")
        assert l1.put(entry)
        assert l1.remove("a") is entry
        assert l1.remove("a") is None
        assert l1.info().size == 0
        drain(l1)

    def test_clear_drops_all(self) -> None:
        l1 = self.make(5)
        for i in range(9):
            assert l1.put(made(f"k{i}", 7))
        assert l1.clear() == 5
        assert l1.info().bytes == 0
        assert not l1.entries
        for i in range(9):
            assert l1.put(made(f"k{i}"))
        drain(l1)

    def test_sweep_drops_exactly_the_expired(self) -> None:
        l1 = self.make(100)
        for i in range(50):
            assert l1.put(made(f"k{i}", expires=float(i)))
        assert l1.sweep(20.0) == 21
        assert set(l1.entries) == {f"k{i}" for i in range(21, 50)}
        assert l1.sweep(20.0) == 0
        drain(l1)

    def test_sweep_keeps_to_its_limit_and_goes_on(self) -> None:
        l1 = self.make(2_000)
        for i in range(2_000):
            assert l1.put(made(f"k{i}", expires=1.0 if i % 100 == 0 else inf))
        counts = [l1.sweep(2.0, 7) for _ in range(60)]
        assert max(counts) <= 7
        assert sum(counts) == 20
        assert l1.info().size == 1_980
        drain(l1)

    def test_shed_gives_up_a_share_of_the_bytes(self) -> None:
        l1 = self.make(100)
        for i in range(100):
            assert l1.put(made(f"k{i}", 10))
        assert l1.shed(0.0) == 0
        assert l1.shed(0.25) == 25
        assert l1.info().bytes == 750
        assert l1.shed(1.0) == 75
        assert l1.shed(1.0) == 0
        drain(l1)

    def test_a_limit_puts_a_share_of_the_bounds_in_force(self) -> None:
        l1 = self.make(100, 1000)
        for i in range(100):
            assert l1.put(made(f"k{i}", 10))
        assert l1.limit(0.5) == 50
        info = l1.info()
        assert (info.size, info.bytes, info.share, info.admits) == (50, 500, 0.5, True)
        assert (info.max_size, info.max_bytes) == (100, 1000)
        for i in range(100, 200):
            assert l1.put(made(f"k{i}", 10))
            check(l1)
        assert l1.info().size == 50
        assert not l1.put(made("large", 501))
        assert l1.limit(1.0) == 0
        for i in range(200, 300):
            assert l1.put(made(f"k{i}", 10))
        assert l1.info().size == 100
        drain(l1)

    def test_a_limit_of_the_bytes_alone_takes_no_small_entries(self) -> None:
        l1 = self.make(100, 1000)
        for i in range(100):
            assert l1.put(made(f"k{i}", 5))
        assert l1.limit(1.0, room=0.5) == 0
        assert l1.info().share == 0.5
        assert l1.put(made("large", 400))
        assert (l1.info().bytes, l1.info().size) <= (500, 100)
        assert not l1.put(made("larger", 501))
        drain(l1)

    def test_a_limit_of_nothing_admits_nothing(self) -> None:
        l1 = self.make(5)
        for i in range(5):
            assert l1.put(made(f"k{i}"))
        assert l1.limit(0.0) == 5
        assert not l1.put(made("a"))
        assert not l1.info().admits
        assert l1.limit(1.0) == 0
        drain(l1)

    def test_what_is_not_admitted_leaves_no_old_value(self) -> None:
        l1 = self.make(5)
        for i in range(5):
            assert l1.put(made(f"k{i}"))
        assert l1.limit(1.0, admit=False) == 0
        assert not l1.info().admits
        assert not l1.put(made("k0"))
        assert not l1.put(made("a"))
        assert set(l1.entries) == {"k1", "k2", "k3", "k4"}
        l1.limit(1.0)
        drain(l1)

    def test_a_limit_keeps_what_is_worth_most(self) -> None:
        l1 = self.make(100)
        for i in range(100):
            assert l1.put(made(f"k{i}"))
        for i in range(40, 60):
            for _ in range(3):
                ask(l1, f"k{i}")
        l1.limit(0.4)
        assert l1.info().size == 40
        kept = sum(f"k{i}" in l1.entries for i in range(40, 60))
        assert kept == 20 or l1.info().policy in {"FIFO", "RANDOM"}
        drain(l1)

    def test_touching_what_went_is_harmless(self) -> None:
        l1, entry = self.make(2), made("a")
        assert l1.put(entry)
        l1.remove("a")
        if l1.touch is not None:
            l1.touch(entry)
        assert not l1.entries
        drain(l1)

    def test_threads_leave_it_whole(self) -> None:
        l1 = self.make(50, 2_000)
        faults: list[str] = []
        gate = threading.Barrier(4)

        def hammer(seed: int) -> None:
            chance = Random(seed)  # noqa: S311 -- a stated order of operations for each thread
            gate.wait(10)
            for turn in range(3_000):
                key = f"k{chance.randrange(120)}"
                entry = ask(l1, key)
                if entry is None:
                    l1.put(made(key, chance.randrange(1, 90), value=key, expires=turn + 9.0))
                elif entry.value != key:
                    faults.append(f"{key} holds {entry.value}")
                disturb(l1, key, turn, chance.random())
                if len(l1.entries) > 50:
                    faults.append("more entries than the bound")

        run(hammer, 4)
        assert faults == []
        drain(l1)

    def test_a_name_that_is_replaced_is_never_missing(self) -> None:
        l1 = self.make(2)
        assert l1.put(made("a"))
        missing: list[int] = []
        done = threading.Event()

        def work(number: int) -> None:
            if number == 0:
                for _ in range(5_000):
                    l1.put(made("a"))
                done.set()
            while not done.is_set():
                if ask(l1, "a") is None:
                    missing.append(number)

        run(work, 3)
        assert missing == []
        drain(l1)
