"""The durable journal: what was appended is there for others once its process is gone."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from pathlib import Path
from typing import NoReturn

import pytest

from querycache.errors import TierError
from querycache.ports.journal import Recorded
from querycache.ports.tiers import Write
from querycache.tiers.sqlite import journal as journal_module
from querycache.tiers.sqlite.journal import SqliteJournal

pytestmark = pytest.mark.asyncio

BIG_GUARD = (1 << 90) + 1


def record(number: int, key: str = "k") -> Recorded:
    return Recorded(number, Write(key, b"%d" % number, 5.5, ("all", "t"), BIG_GUARD))


def names(folder: Path) -> list[str]:
    return [path.suffix for path in folder.iterdir()]


def damage(folder: Path) -> None:
    (path,) = folder.glob("*.sqlite")
    path.write_bytes(b"no database" * 1000)


async def left(folder: Path, *records: Recorded) -> None:
    journal = SqliteJournal(str(folder))
    await journal.append(records)
    await journal.close()


async def test_what_was_appended_is_adopted_in_order_and_equal(tmp_path: Path) -> None:
    plain = Recorded(3, Write("c", b"", 1.0, (), None, tell=False))
    await left(tmp_path, record(2), record(1), plain)
    other = SqliteJournal(str(tmp_path))
    orphans = await other.adopt()
    assert orphans is not None
    assert list(orphans.records) == [record(1), record(2), plain]
    assert await other.adopt() is None  # it is taken
    orphans.let_go()
    again = await other.adopt()
    assert again is not None
    again.done()
    assert await other.adopt() is None
    assert names(tmp_path) == []


async def test_what_was_removed_is_not_adopted_and_an_empty_journal_goes(tmp_path: Path) -> None:
    journal = SqliteJournal(str(tmp_path))
    journal.remove("k", 9)  # nothing was ever kept
    assert names(tmp_path) == []
    await journal.append([record(1), record(2), record(3), record(4, "other")])
    journal.remove("k", 2)
    journal.remove("other", 9)
    await journal.append([])
    another = SqliteJournal(str(tmp_path))
    assert await another.adopt() is None  # its process lives
    journal.remove("k", 3)
    await journal.close()
    await journal.close()
    assert names(tmp_path) == []
    with pytest.raises(TierError):
        await journal.append([record(5)])


async def test_a_damaged_journal_is_set_aside(tmp_path: Path) -> None:
    await left(tmp_path, record(1))
    damage(tmp_path)
    journal = SqliteJournal(str(tmp_path))
    assert await journal.adopt() is None
    assert names(tmp_path) == [".damaged"]


async def test_a_folder_that_can_not_be_written_is_an_error_of_the_tier(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    journal = SqliteJournal(str(blocked / "journal"))
    with pytest.raises(TierError):
        await journal.append([record(1)])
    await journal.close()


async def test_a_child_begins_its_own(tmp_path: Path) -> None:
    journal = SqliteJournal(str(tmp_path))
    await journal.append([record(1)])
    child = os.fork()
    if not child:
        os._exit(names(tmp_path).count(".lock"))
    _, status = os.waitpid(child, 0)  # noqa: ASYNC222 -- it ends at once
    assert os.waitstatus_to_exitcode(status) == 1
    other = SqliteJournal(str(tmp_path))
    assert await other.adopt() is None  # the parent still holds it
    await journal.append([record(2)])
    await journal.close()
    orphans = await other.adopt()
    assert orphans is not None
    assert len(orphans.records) == 2
    orphans.done()


@pytest.mark.parametrize("made", [(".lock",), (".lock", ".sqlite")])
async def test_what_a_crash_left_while_it_was_made_goes(
    tmp_path: Path, made: tuple[str, ...]
) -> None:
    for suffix in made:
        (tmp_path / f"1-x{suffix}").touch()
    assert await SqliteJournal(str(tmp_path)).adopt() is None
    assert names(tmp_path) == []


async def test_one_that_is_taken_for_a_dead_one_while_it_is_made_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, looks = fcntl.flock, [SqliteJournal(str(tmp_path))]

    def raced(lock: int, how: int) -> None:
        if looks and how == fcntl.LOCK_EX:
            assert asyncio.run(looks.pop().adopt()) is None
        flock(lock, how)

    monkeypatch.setattr(fcntl, "flock", raced)
    journal = SqliteJournal(str(tmp_path))
    await journal.append([record(1)])
    assert looks == []
    await journal.close()
    left_behind = await SqliteJournal(str(tmp_path)).adopt()
    assert left_behind is not None
    assert list(left_behind.records) == [record(1)]
    left_behind.done()


async def test_one_that_can_not_be_read_now_is_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await left(tmp_path, record(1))

    def no_descriptor(path: str, *, cache_kib: int) -> NoReturn:
        raise OSError(errno.EMFILE, f"{path} {cache_kib}")

    other = SqliteJournal(str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "connect", no_descriptor)
        assert await other.adopt() is None
    orphans = await other.adopt()
    assert orphans is not None
    assert list(orphans.records) == [record(1)]
    orphans.done()
