"""L1 gives up where memory is short, and grows back when it no longer is."""

from __future__ import annotations

import pytest
from tests.behaviour.l1_suite import made

from querycache.events import Event, Pressure
from querycache.ports.memory import Level, Reading
from querycache.testing import RecordingObserver
from querycache.tiers.memory import MemoryTier
from querycache.usecases.relieve_memory import RelieveMemory

LIMIT = 1_000_000
HELD = 100  # entries of 100 bytes at first: all that the tier holds


class Machine:
    """A process whose memory is what the test says, and L1 filled to its bound."""

    def __init__(self, share: float = 0.5, limit: int = LIMIT) -> None:
        self.share = share
        self.limit = limit
        self.stalled: float | None = None
        self.observer = RecordingObserver()
        self.l1 = MemoryTier(max_entries=HELD, max_bytes=HELD * 100)
        self.relief = RelieveMemory(self.l1, self.observer, self.read, warning=0.8, critical=0.9)
        self.fill()

    def read(self) -> Reading:
        used = int(self.share * self.limit)
        return Reading(used, self.limit, "cgroup", 1000, self.stalled)

    def fill(self) -> int:
        """How many of as many entries as it could hold were taken in."""
        return sum(self.l1.put(made(f"k{number}", 100)) for number in range(HELD))

    def turns(self, count: int) -> list[int]:
        """How many entries it holds after each turn."""
        sizes: list[int] = []
        for _ in range(count):
            self.relief.turn()
            sizes.append(self.l1.info().size)
        return sizes

    @property
    def told(self) -> list[Level]:
        return [event.level for event in self.events]

    @property
    def events(self) -> list[Pressure]:
        events: list[Event] = self.observer.events
        return [event for event in events if isinstance(event, Pressure)]


def test_without_pressure_nothing_happens():
    machine = Machine(0.79)
    assert machine.turns(5) == [HELD] * 5
    assert machine.told == []
    assert machine.relief.share == 1.0


def test_at_the_first_mark_it_tells_once_and_gives_up_a_bounded_share():
    machine = Machine(0.8)
    sizes = machine.turns(60)
    assert machine.told == ["warning"]
    assert sizes[0] == 90
    assert machine.events == [Pressure("", "warning", 800_000, LIMIT, 10)]
    gone = [before - after for before, after in zip([HELD, *sizes], sizes, strict=False)]
    assert all(0 <= each <= 10 for each in gone)
    assert sizes[-1] == 5  # a warning leaves it a twentieth
    assert machine.relief.sheds == HELD - 5
    assert machine.fill() == HELD  # it still takes in what displaces others
    assert machine.l1.info().size == 5


def test_the_least_valuable_go_first():
    machine = Machine(0.8)
    for number in range(20):
        machine.l1.entries[f"k{number}"].hits += 3
    machine.turns(8)
    kept = set(machine.l1.entries)
    assert {f"k{number}" for number in range(20)} <= kept
    assert len(kept) < 60


def test_at_the_second_mark_nothing_comes_in_and_half_goes():
    machine = Machine(0.9)
    assert machine.turns(3) == [50, 25, 12]
    assert machine.told == ["critical"]
    assert not machine.l1.info().admits
    assert machine.fill() == 0
    assert machine.turns(8)[-1] == 0


def test_between_the_marks_it_holds_still_until_a_mark_is_left():
    machine = Machine(0.8)
    machine.turns(1)
    machine.share = 0.77
    assert machine.turns(5) == [90] * 5
    assert machine.told == ["warning"]
    machine.share = 0.75
    machine.turns(1)
    assert machine.told == ["warning", "normal"]


def test_a_reading_that_swings_around_a_mark_is_told_once():
    machine = Machine()
    for share in (0.80, 0.79, 0.81, 0.77, 0.80) * 4:
        machine.share = share
        machine.turns(1)
    assert machine.told == ["warning"]
    machine.share = 0.91
    machine.turns(1)
    for share in (0.89, 0.91, 0.87, 0.9):
        machine.share = share
        machine.turns(1)
    assert machine.told == ["warning", "critical"]
    machine.share = 0.84
    machine.turns(1)
    assert machine.told == ["warning", "critical", "warning"]
    assert machine.l1.info().admits


def test_it_grows_back_slowly():
    machine = Machine(0.8)
    machine.turns(40)
    machine.share = 0.3
    shares: list[float] = []
    for _ in range(60):
        machine.turns(1)
        machine.fill()
        shares.append(machine.relief.share)
    assert shares[0] == pytest.approx(0.07)
    assert shares[10] == pytest.approx(0.27)
    assert shares[-1] == 1.0
    assert machine.l1.info().size == HELD


def test_stalls_are_a_warning_whatever_the_figures_say():
    machine = Machine(0.3)
    machine.stalled = 25.0
    assert machine.turns(2) == [90, 81]
    assert machine.told == ["warning"]
    machine.stalled = 0.0
    machine.turns(1)
    assert machine.told == ["warning", "normal"]


def test_it_may_not_grow_past_the_marks_between_two_looks():
    """Whoever fills it without a pause lets no look happen."""
    machine = Machine(0.6, limit=20_000)
    machine.l1.clear()
    machine.relief.turn()
    machine.fill()
    grown = machine.l1.info().bytes
    assert 3000 < grown <= 5000  # of the 5,000 to midway between the marks
    assert machine.told == []


def test_a_tier_that_holds_nothing_is_left_alone():
    machine = Machine(0.95)
    machine.relief = RelieveMemory(
        MemoryTier(max_entries=0, max_bytes=0),
        machine.observer,
        machine.read,
        warning=0.8,
        critical=0.9,
    )
    assert machine.relief.turn() == 0
    assert machine.told == ["critical"]


def test_many_small_entries_stay_where_memory_is_not_short():
    machine = Machine(0.7, limit=5_000)
    machine.l1 = MemoryTier(max_entries=HELD, max_bytes=10_000)
    machine.relief = RelieveMemory(
        machine.l1, machine.observer, machine.read, warning=0.8, critical=0.9
    )
    machine.relief.turn()
    assert sum(machine.l1.put(made(f"k{number}", 1)) for number in range(HELD)) == HELD
    assert machine.turns(3) == [HELD] * 3
    assert machine.relief.share < 1.0  # of the bytes
    assert machine.fill() == HELD  # and these are large ones
    assert machine.l1.info().bytes <= 100 + 5_000 * 0.15 / 1.25


def test_a_tier_that_is_the_pressure_itself_comes_to_rest():
    machine = Machine()
    for number in range(200):
        machine.share = 0.1 + machine.l1.info().bytes / 14_000  # full, it is at 0.81
        machine.turns(1)
        for one in range(HELD):
            machine.l1.put(made(f"{number}.{one}", 100))
    assert machine.told == ["warning", "normal"]
    assert machine.l1.info().size > 0.8 * HELD
