"""The embedded store on a disk that is full or fails."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.live.sqlite_process import content, entry, opened

from querycache.errors import TierError
from querycache.tiers.sqlite import SqliteTier

pytestmark = [pytest.mark.asyncio, pytest.mark.live]

ROOT = Path(__file__).parents[2]
DISK_BYTES = 8 * 1024 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root may mount a small file system")
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not permitted")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, keep: int = 0) -> None:
    """Takes all of the disk but `keep` bytes."""
    with (disk / "ballast").open("ab", buffering=0) as file:
        status = os.statvfs(disk)
        free = status.f_bavail * status.f_frsize - keep
        try:
            while free > 0:
                free -= file.write(bytes(min(free, 65536)))
        except OSError:
            return


async def stored(tier: SqliteTier, number: int) -> bool:
    try:
        return await tier.write([entry(f"k:{number}", content(number))]) == [True]
    except TierError:
        return False


async def readable(tier: SqliteTier, count: int) -> int:
    """How many entries are there; each that is, is right."""
    found = 0
    for number in range(count):
        data = (await tier.read([f"k:{number}"]))[0].data
        assert data in {None, content(number)}
        found += data is not None
    return found


def integrity(folder: Path) -> str:
    connection = sqlite3.connect(folder / "l2.sqlite")
    try:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()


async def test_a_disk_that_fills_up_costs_entries_not_errors(disk: Path) -> None:
    folder = disk / "l2"
    tier, other = opened(str(folder)), opened(str(folder))
    done = [await stored(tier, number) for number in range(6000)]
    assert sum(done) > 1000
    assert 100 < await readable(tier, 6000) < 6000
    for number in range(50):
        assert await tier.remove([f"k:{number}"]) in {0, 1}
        assert (await tier.bump([f"t:{number}"]))[f"t:{number}"].number
    assert await readable(other, 50) == 0
    assert tier.rebuilt == 0
    await tier.close()
    await other.close()
    assert integrity(folder) == "ok"


async def test_a_disk_filled_by_others_still_takes_invalidations(disk: Path) -> None:
    folder = disk / "l2"
    tier, other = opened(str(folder)), opened(str(folder))
    assert all([await stored(tier, number) for number in range(600)])
    fill(disk)
    assert await readable(other, 600) == 600
    for number in range(300):
        await stored(tier, 1000 + number)
        await tier.remove([f"k:{number}"])
        assert (await tier.bump([f"t:{number}"]))[f"t:{number}"].number
        fill(disk)
        assert (await other.read([f"k:{number}"]))[0].data is None
    stamps = await other.stamps([f"t:{number}" for number in range(300)])
    assert all(stamp.number for stamp in stamps.values()) or other.rebuilt
    assert await readable(other, 300) == 0
    (disk / "ballast").unlink()
    assert await stored(tier, 5000)
    assert (await other.read(["k:5000"]))[0].data == content(5000)
    for each in (tier, other):
        await each.close()
    assert integrity(folder) == "ok"


async def test_a_disk_too_full_to_begin_is_said(disk: Path) -> None:
    fill(disk)
    with pytest.raises(TierError) as caught:
        opened(str(disk / "l2"))
    assert caught.value.remedy
    (disk / "ballast").unlink()
    tier = opened(str(disk / "l2"))
    assert await stored(tier, 1)
    await tier.close()


FAULTS = [
    *(("fdatasync", "EIO", when) for when in ("1", "3+5", "2+1")),
    *(("pwrite64", "EIO", when) for when in ("40+9", "60", "50+1")),
    *(("pwrite64", "ENOSPC", when) for when in ("45+9", "70+1")),
    ("pread64", "EIO", "30+7"),
]


@pytest.mark.parametrize("fault", FAULTS, ids="-".join)
async def test_a_disk_that_fails_costs_entries_not_errors(
    tmp_path: Path, fault: tuple[str, str, str]
) -> None:
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    call, error, when = fault
    process = await asyncio.create_subprocess_exec(
        *("strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={call}"),
        *("-e", f"inject={call}:error={error}:when={when}"),
        *(sys.executable, "-m", "tests.live.sqlite_process", "failing_disk", str(tmp_path / "l2")),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if b"PTRACE" in err or b"ptrace" in err:
        pytest.skip("tracing is not permitted")
    report = json.loads(out)
    assert process.returncode == 0
    assert report["wrong"] == 0
    assert report["revived"] == 0
    if (tmp_path / "l2" / "l2.sqlite").exists():
        assert integrity(tmp_path / "l2") == "ok"
