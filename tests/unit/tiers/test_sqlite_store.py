"""The embedded store's files: whose they are, what becomes of damaged, replaced and missing
ones.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from querycache.errors import TierError
from querycache.ports.tiers import Write
from querycache.testing import FakeClock
from querycache.tiers.sqlite import SqliteTier, open_sqlite
from querycache.tiers.sqlite.files import Files, file_system, is_remote

pytestmark = pytest.mark.asyncio

DATABASE = "l2.sqlite"
Damage = Callable[[Path], None]


def opened(folder: Path, clock: FakeClock, max_bytes: int = 64 * 1024 * 1024) -> SqliteTier:
    return SqliteTier(str(folder), clock=clock, max_bytes=max_bytes, busy_timeout_s=1.0)


def entries(clock: FakeClock, count: int = 200) -> list[Write]:
    return [Write(f"k:{n}", f"{n}".encode() * 500, clock.wall() + 900) for n in range(count)]


async def value(tier: SqliteTier, key: str) -> bytes | None:
    """What a caller of the cache would get: a failing tier is a miss."""
    try:
        return (await tier.read([key]))[0].data
    except TierError:
        return None


async def until_read(tier: SqliteTier, key: str, wanted: bytes | None) -> None:
    async with asyncio.timeout(10):
        while await value(tier, key) != wanted:  # noqa: ASYNC110 -- a thread reopens it
            await asyncio.sleep(0.01)


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def cut_to_nothing(path: Path) -> None:
    os.truncate(path, 0)


def overwritten(path: Path, make: Callable[[int], bytes]) -> None:
    with path.open("r+b") as file:
        file.write(make(path.stat().st_size))


def zeroed(path: Path) -> None:
    overwritten(path, bytes)


def random_bytes(path: Path) -> None:
    overwritten(path, random.Random(1).randbytes)  # noqa: S311 -- noise


def flipped(path: Path) -> None:
    def flip(size: int) -> bytes:
        data = bytearray(path.read_bytes())
        for at in random.Random(2).sample(range(size), size // 200):  # noqa: S311 -- noise
            data[at] ^= 0x40
        return bytes(data)

    overwritten(path, flip)


def another_kind_of_file(path: Path) -> None:
    path.write_text("not a database\n" * 1000)


DAMAGES = [truncated, cut_to_nothing, zeroed, random_bytes, flipped, another_kind_of_file]


async def filled(folder: Path, clock: FakeClock) -> None:
    tier = opened(folder, clock)
    await tier.write(entries(clock))
    await tier.bump(["t"])
    await tier.close()


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_file_found_at_the_start(tmp_path: Path, damage: Damage) -> None:
    clock = FakeClock()
    await filled(tmp_path, clock)
    damage(tmp_path / DATABASE)
    tier = opened(tmp_path, clock)
    for write in entries(clock):
        assert await value(tier, write.key) in {None, write.data}
    assert await tier.write([Write("new", b"new", clock.wall() + 60)]) == [True]
    await until_read(tier, "new", b"new")
    await tier.close()
    check_integrity(tmp_path / DATABASE)


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_file_damaged_while_two_have_it_open(tmp_path: Path, damage: Damage) -> None:
    clock = FakeClock()
    await filled(tmp_path, clock)
    ours, theirs = opened(tmp_path, clock), opened(tmp_path, clock)
    before = await ours.stamps(["t"])
    seen = theirs.backplane.drain().seen
    damage(tmp_path / DATABASE)
    for write in entries(clock):
        assert await value(ours, write.key) in {None, write.data}
    async with asyncio.timeout(10):
        while not await stored(ours, Write("new", b"new", clock.wall() + 60)):  # noqa: ASYNC110 -- a thread reopens it
            await asyncio.sleep(0.01)
    await until_read(ours, "new", b"new")
    await until_read(theirs, "new", b"new")
    if ours.rebuilt:
        assert await ours.stamps(["t"]) != before
        assert await theirs.stamps(["t"]) == await ours.stamps(["t"])
        assert theirs.backplane.epoch[0] != seen
        assert theirs.backplane.drain().lost
        assert theirs.backplane.drain().seen == theirs.backplane.epoch[0]
    for tier in (ours, theirs):
        await tier.close()
    check_integrity(tmp_path / DATABASE)


def matching(folder: Path, pattern: str) -> list[Path]:
    return list(folder.glob(pattern))


async def stored(tier: SqliteTier, write: Write) -> bool:
    try:
        return (await tier.write([write])) == [True]
    except TierError:
        return False


def check_integrity(path: Path) -> None:
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        connection.close()


async def test_damaged_files_are_kept_but_not_many(tmp_path: Path) -> None:
    clock = FakeClock()
    for _ in range(4):
        await filled(tmp_path, clock)
        another_kind_of_file(tmp_path / DATABASE)
        tier = opened(tmp_path, clock)
        assert tier.rebuilt == 1
        await tier.close()
        await clock.advance(1)
    assert len(matching(tmp_path, "*.damaged-*")) == 2


@pytest.mark.parametrize(
    "gone",
    [["*"], [DATABASE], ["l2.epoch"], [f"{DATABASE}-wal"], [f"{DATABASE}-shm"], [f"{DATABASE}*"]],
)
async def test_files_deleted_while_two_have_them_open(tmp_path: Path, gone: list[str]) -> None:
    clock = FakeClock()
    ours, theirs = opened(tmp_path, clock), opened(tmp_path, clock)
    await ours.write(entries(clock))
    seen = theirs.backplane.drain().seen
    assert await value(theirs, "k:1")
    for pattern in gone:
        for path in matching(tmp_path, pattern):
            path.unlink()
    assert await ours.write([Write("new", b"new", clock.wall() + 60)]) == [True]
    assert await value(theirs, "new") == b"new"
    assert theirs.backplane.epoch[0] != seen
    assert theirs.backplane.drain().lost
    moved = await ours.bump(["t"])
    assert theirs.backplane.drain().tags == moved
    for tier in (ours, theirs):
        await tier.close()
    check_integrity(tmp_path / DATABASE)


async def test_a_folder_wiped_and_made_anew_by_a_third(tmp_path: Path) -> None:
    clock = FakeClock()
    folder = tmp_path / "l2"
    ours = opened(folder, clock)
    await ours.write(entries(clock))
    seen = ours.backplane.drain().seen
    shutil.rmtree(folder)
    third = opened(folder, clock)
    await third.write([Write("theirs", b"theirs", clock.wall() + 60)])
    async with asyncio.timeout(10):  # nothing is asked of ours: its own look must find it
        while ours.backplane.epoch[0] == seen:  # noqa: ASYNC110 -- a thread looks
            await asyncio.sleep(0.01)
        while not (changes := ours.backplane.drain()).lost:
            assert changes.bypass
            await asyncio.sleep(0.01)
    assert await value(ours, "theirs") == b"theirs"
    assert await value(ours, "k:1") is None
    for tier in (ours, third):
        await tier.close()


async def test_a_guard_of_an_earlier_life_is_refused(tmp_path: Path) -> None:
    clock = FakeClock()
    folder = tmp_path / "l2"
    ours = opened(folder, clock)
    guard = (await ours.read(["k"]))[0].guard
    await ours.remove(["k"])
    shutil.rmtree(folder)
    for _ in range(3):
        await ours.bump(["t"])
    stale = Write("k", b"stale", clock.wall() + 60, guard=guard)
    assert await ours.write([stale]) == [False]
    await ours.close()


async def test_only_this_user_may_read_the_files(tmp_path: Path) -> None:
    clock = FakeClock()
    folder = tmp_path / "l2"
    folder.mkdir(mode=0o755)
    tier = opened(folder, clock)
    await tier.write(entries(clock))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    await tier.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
async def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(TierError, match="another user"):
        opened(tmp_path, FakeClock())


async def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TierError):
        opened(tmp_path / "file", FakeClock())


async def test_a_process_that_holds_the_lock_is_named(tmp_path: Path) -> None:
    files = Files(str(tmp_path))
    with files.locked(1.0), pytest.raises(TierError, match=r"l2\.lock") as caught:
        SqliteTier(str(tmp_path), clock=FakeClock(), max_bytes=1 << 20, busy_timeout_s=0.02)
    assert caught.value.remedy


MOUNTS = """\
22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:30 / /mnt/my\\040disk rw shared:2 - nfs4 server:/export rw
31 22 0:31 / /mnt/my\\040disk/local rw - tmpfs tmpfs rw
"""


async def test_network_file_systems_are_recognised() -> None:
    assert file_system("/home/u", MOUNTS) == "ext4"
    assert file_system("/mnt/my disk/cache", MOUNTS) == "nfs4"
    assert file_system("/mnt/my disk/local/cache", MOUNTS) == "tmpfs"
    assert file_system("/mnt/my disks", MOUNTS) == "ext4"
    assert file_system("/home/u", "") == ""
    assert is_remote("nfs4")
    assert not is_remote("ext4")


async def test_another_format_starts_empty(tmp_path: Path) -> None:
    clock = FakeClock()
    await filled(tmp_path, clock)
    connection = sqlite3.connect(tmp_path / DATABASE)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    tier, backplane = open_sqlite(str(tmp_path), clock=clock, max_bytes=1 << 24)
    assert tier.rebuilt == 1
    assert await value(tier, "k:1") is None
    assert backplane.drain().seen == backplane.epoch[0]
    await tier.close()


async def test_what_was_written_survives_a_reopening(tmp_path: Path) -> None:
    clock = FakeClock()
    tier = opened(tmp_path, clock)
    await tier.write(entries(clock))
    moved = await tier.bump(["t"])
    await tier.close()
    again = opened(tmp_path, clock)
    assert await value(again, "k:7") == b"7" * 500
    assert await again.stamps(["t"]) == moved
    assert again.rebuilt == 0
    await again.close()
