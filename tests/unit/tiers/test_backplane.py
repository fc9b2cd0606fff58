"""The shared words and what a drain makes of them, step by step."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from querycache.errors import TierError
from querycache.ports.tiers import Changes
from querycache.testing import FakeClock
from querycache.tiers.backplane import DOUBT_S, EpochFile, LogRow, SharedEpoch
from querycache.values import Stamp

IDENTITY = 77
BEGUN, DONE = 0, 1


class PaperJournal:
    """A log on paper, whose readers can be held up."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "l2.epoch")
        self.file = EpochFile.create(self.path, IDENTITY)
        self.source = 1
        self.committed: list[LogRow] = []
        self.mended = 0
        self.broken = False
        self.before_rows: Callable[[], None] = lambda: None

    def last(self, file: EpochFile) -> int:
        self._check(file)
        return self.committed[-1].id if self.committed else 0

    def rows(self, file: EpochFile, after: int) -> list[LogRow]:
        self.before_rows()
        self._check(file)
        return [row for row in self.committed if row.id > after]

    def mend(self) -> None:
        self.mended += 1

    def commit(self, name: str, *, source: int = 2, is_tag: bool = False) -> int:
        number = (self.committed[-1].id if self.committed else 0) + 1
        self.committed.append(LogRow(number, source, is_tag, name))
        return number

    def change(self, name: str, *, source: int = 2, is_tag: bool = False) -> None:
        mark = self.file.begin()
        self.commit(name, source=source, is_tag=is_tag)
        self.file.end(mark)

    def _check(self, file: EpochFile) -> None:
        if self.broken or file is not self.file:
            raise TierError("the paper is wet")


@pytest.fixture
def journal(tmp_path: Path) -> PaperJournal:
    return PaperJournal(tmp_path)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def epoch(journal: PaperJournal, clock: FakeClock) -> SharedEpoch:
    return SharedEpoch(journal, clock)


def test_a_file_is_what_was_put_there(tmp_path: Path) -> None:
    path = tmp_path / "l2.epoch"
    made = EpochFile.create(str(path), IDENTITY)
    found = EpochFile.open(str(path))
    assert found is not None
    assert path.stat().st_mode & 0o777 == 0o600
    assert found.identity == made.identity == IDENTITY
    assert found.settled
    assert not found.retired
    mark = made.begin()
    assert not found.settled
    assert found.words[BEGUN] == mark
    made.end(mark)
    assert found.settled
    found.retire()
    assert made.retired
    assert made.words[BEGUN] != mark
    assert [child.name for child in tmp_path.iterdir()] == ["l2.epoch"]


def test_a_file_replaces_another_in_one_step(tmp_path: Path) -> None:
    path = str(tmp_path / "l2.epoch")
    old = EpochFile.create(path, 1)
    EpochFile.create(path, 2)
    found = EpochFile.open(path)
    assert found is not None
    assert (old.identity, found.identity) == (1, 2)
    assert old.words[BEGUN] != found.words[BEGUN]


@pytest.mark.parametrize("content", [b"", b"short", bytes(4096), b"\xff" * 4096, bytes(8192)])
def test_a_file_of_another_kind_is_not_taken(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "l2.epoch"
    assert EpochFile.open(str(path)) is None
    path.write_bytes(content)
    assert EpochFile.open(str(path)) is None


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    EpochFile.create(str(tmp_path / "real"), IDENTITY)
    (tmp_path / "l2.epoch").symlink_to(tmp_path / "real")
    assert EpochFile.open(str(tmp_path / "l2.epoch")) is None


def test_writers_that_end_in_the_other_order_do_not_go_back(tmp_path: Path) -> None:
    file = EpochFile.create(str(tmp_path / "l2.epoch"), IDENTITY)
    first, second = file.begin(), file.begin()
    file.end(second)
    file.end(first)
    assert file.settled


def test_a_change_moves_the_epoch_and_is_told(journal: PaperJournal, epoch: SharedEpoch) -> None:
    seen = epoch.drain().seen
    assert seen == epoch.epoch[0]
    journal.change("k")
    journal.change("t", is_tag=True)
    journal.change("ours", source=1)
    assert epoch.epoch[0] != seen
    assert epoch.drain() == Changes(
        keys=("k",), tags={"t": Stamp(IDENTITY, 2)}, seen=epoch.epoch[0]
    )
    assert epoch.drain() == Changes(seen=epoch.epoch[0])


def test_what_was_there_before_is_not_told(journal: PaperJournal, clock: FakeClock) -> None:
    journal.change("k")
    assert SharedEpoch(journal, clock).drain() == Changes(seen=journal.file.words[BEGUN])


def test_a_change_under_way_is_looked_for_again(journal: PaperJournal, epoch: SharedEpoch) -> None:
    epoch.drain()
    mark = journal.file.begin()
    assert epoch.drain() == Changes(seen=-1)
    journal.commit("k")
    assert epoch.drain() == Changes(keys=("k",), seen=-1)
    journal.file.end(mark)
    assert epoch.drain() == Changes(seen=mark)


def test_a_change_that_lands_after_the_words_were_read(
    journal: PaperJournal, epoch: SharedEpoch
) -> None:
    before = journal.file.begin()
    journal.file.end(before)
    journal.before_rows = lambda: journal.change("late")
    first = epoch.drain()
    assert first.seen == before != epoch.epoch[0]
    journal.before_rows = lambda: None
    assert [*first.keys, *epoch.drain().keys] == ["late"]


async def doubt(epoch: SharedEpoch, clock: FakeClock, seconds: float) -> None:
    assert epoch.drain().seen == -1
    await clock.advance(seconds)
    assert epoch.drain().seen == -1


@pytest.mark.asyncio
async def test_a_writer_that_died_is_mended_after_a_while(
    journal: PaperJournal, epoch: SharedEpoch, clock: FakeClock
) -> None:
    journal.file.begin()
    await doubt(epoch, clock, DOUBT_S / 2)
    assert journal.mended == 0
    await clock.advance(DOUBT_S)
    await doubt(epoch, clock, 0)
    assert journal.mended == 1
    journal.file.mend()
    assert epoch.drain().seen == epoch.epoch[0]


@pytest.mark.asyncio
async def test_writers_in_turn_are_not_taken_for_dead(
    journal: PaperJournal, epoch: SharedEpoch, clock: FakeClock
) -> None:
    for _ in range(5):
        mark = journal.file.begin()
        await doubt(epoch, clock, DOUBT_S / 2)
        journal.file.end(mark)
    assert journal.mended == 0


def test_a_trimmed_tail_is_a_loss(journal: PaperJournal, epoch: SharedEpoch) -> None:
    epoch.drain()
    for number in range(5):
        journal.change(f"k:{number}")
    del journal.committed[:2]
    assert epoch.drain() == Changes(seen=epoch.epoch[0], lost=True)
    journal.change("after")
    assert epoch.drain().keys == ("after",)


def test_a_log_that_can_not_be_read_is_an_unknown_world(
    journal: PaperJournal, epoch: SharedEpoch
) -> None:
    epoch.drain()
    journal.change("k")
    journal.broken = True
    assert epoch.drain() == Changes(seen=-1, bypass=True)
    journal.broken = False
    assert epoch.drain() == Changes(keys=("k",), seen=epoch.epoch[0])


def test_a_retired_map_is_bypassed_until_the_next_life(
    journal: PaperJournal, epoch: SharedEpoch
) -> None:
    kept = epoch.epoch
    seen = epoch.drain().seen
    journal.file.retire()
    assert kept[0] != seen
    assert epoch.drain() == Changes(seen=-1, bypass=True)
    assert journal.mended == 1
    journal.file = EpochFile.create(journal.path, IDENTITY + 1)
    journal.committed = [LogRow(41, 2, is_tag=False, name="unheard")]
    changes = epoch.drain()
    assert changes == Changes(seen=epoch.epoch[0], lost=True)
    assert kept[0] != changes.seen
    journal.change("k")
    assert epoch.drain().keys == ("k",)


class SteppedWords:
    """Words whose readers and writers are held up before each look."""

    def __init__(self, words: memoryview, pause: Callable[[], None]) -> None:
        self._words = words
        self._pause = pause

    def __getitem__(self, index: int) -> int:
        self._pause()
        return self._words[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._words[index] = value


class Writers:
    """Writers in turn, one step at a time: some are killed between their steps."""

    def __init__(self, journal: PaperJournal, choose: random.Random) -> None:
        self.journal = journal
        self.choose = choose
        self.file = cast("EpochFile", EpochFile.open(journal.path))  # a map of their own
        self.locked = False
        self.acknowledged: set[str] = set()
        self.running = [self._one(f"k:{number}") for number in range(4)]

    def step(self) -> None:
        if self.running:
            writer = self.choose.choice(self.running)
            if next(writer, None) is None:
                self.running.remove(writer)

    def _one(self, name: str) -> Iterator[str]:
        killed_after = self.choose.choice([1, 2, 3, 9, 9, 9])
        while self.locked:
            yield "waits"
        self.locked = True
        self.file.mend()
        mark = self.file.begin()
        yield "begun"
        if killed_after == 1:
            self.locked = False  # rolled back by its death
            return
        self.journal.commit(name)
        self.locked = False
        yield "committed"
        if killed_after == 2:
            return
        done = self.file.words[DONE]
        yield "about to end"  # `end` is a look and a store: others come between
        self.file.words[DONE] = max(done, mark)
        yield "ended"
        if killed_after == 3:
            return
        self.acknowledged.add(name)
        yield "acknowledged"


@pytest.mark.parametrize("start", range(0, 2000, 200))
def test_no_order_of_steps_hides_an_acknowledged_change(tmp_path: Path, start: int) -> None:
    for seed in range(start, start + 200):
        run_one_order(tmp_path, seed)


def run_one_order(tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)  # noqa: S311 -- an order, not a secret
    journal = PaperJournal(tmp_path)
    epoch = SharedEpoch(journal, FakeClock())
    seen = epoch.drain().seen
    real = journal.file.words
    writers = Writers(journal, choose)
    held = {f"k:{number}" for number in range(4)}  # what L1 holds: true before the writers began

    def pause() -> None:
        while choose.random() < 0.4:
            writers.step()

    while writers.running:
        pause()
        due = set(writers.acknowledged)  # a read that starts now must know of these
        if real[BEGUN] != seen:
            journal.file.words = cast("Any", SteppedWords(real, pause))
            journal.before_rows = pause
            changes = epoch.drain()
            journal.file.words = real
            held -= set(changes.keys)
            seen = changes.seen
        assert not held & due, seed
    journal.file.mend()
    held -= set(epoch.drain().keys)
    assert held == {f"k:{n}" for n in range(4)} - {row.name for row in journal.committed}, seed
