"""Back-ups and restores that are killed: a file is whole or not there, an entry is whole or not
there, and the next run completes what the last one began.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
from pathlib import Path

import pytest
from tests.doors.cli_kit import command, environment
from tests.live.fault_kit import sizes
from tests.unit.usecases.app_kit import app_at

from querycache.assembly import App
from querycache.codec.backup_file import DiskBackups
from querycache.errors import BackupError

pytestmark = [pytest.mark.live, pytest.mark.asyncio]

ENTRIES = 1500


def value_of(number: int) -> dict[str, object]:
    return {"number": number, "text": f"{number}" * 150}


async def held(app: App) -> set[int]:
    """The numbers of the entries that are there; each is what it was."""
    found = await app.remember.get_batch([f"k{n}" for n in range(ENTRIES)])
    numbers = {int(key[1:]) for key in found}
    assert found == {f"k{n}": value_of(n) for n in numbers}
    return numbers


def entries_of(path: Path) -> int | None:
    """How many entries a back-up holds; None where it is not whole."""
    try:
        reader = DiskBackups().open(str(path))
    except BackupError:
        return None
    reader.close()
    return reader.manifest.entries


async def killed(words: list[str], home: Path, after_s: float) -> int:
    """Runs a command and kills it so long after it began to work."""
    process = await asyncio.create_subprocess_exec(
        *command(*words),
        env=environment(QUERYCACHE_HOME=str(home)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(after_s):
            await process.wait()
    except TimeoutError:
        process.kill()
    return await process.wait()


@pytest.mark.parametrize("count", sizes(3, 100))
async def test_a_killed_backup_is_whole_or_not_there(tmp_path: Path, count: int) -> None:
    rng = random.Random(count)
    files = tmp_path / "files"
    files.mkdir()
    path = files / "a.qcb"
    async with app_at(tmp_path / "home") as app:
        await app.remember.set_batch({f"k{n}": value_of(n) for n in range(ENTRIES)})
        await app.back_up(str(path))
    for _ in range(count):
        words = ["backup", str(path), "--force"]
        status = await killed(words, tmp_path / "home", rng.uniform(0.3, 1.2))
        assert entries_of(path) == ENTRIES
        assert status in {0, -9}
        strays = [one for one in files.iterdir() if one != path]
        assert all(one.name.endswith(".part") for one in strays)
        for stray in strays:  # cut short, or killed just before it was put in its place
            assert entries_of(stray) in {None, ENTRIES}
            stray.unlink()


@pytest.mark.parametrize("mode", ["--merge", "--replace"])
@pytest.mark.parametrize("count", sizes(2, 50))
async def test_a_killed_restore_is_completed_by_another(
    tmp_path: Path, count: int, mode: str
) -> None:
    rng = random.Random(count)
    path, home = tmp_path / "a.qcb", tmp_path / "home"
    async with app_at(tmp_path / "source") as app:
        await app.remember.set_batch({f"k{n}": value_of(n) for n in range(ENTRIES)})
        await app.back_up(str(path))
    for _ in range(count):
        async with app_at(home) as app:
            await app.clear()
            await app.remember.set("k0", value_of(0))
            await app.remember.set("own", "mine")
        status = await killed(["restore", str(path), mode], home, rng.uniform(0.3, 1.2))
        assert status in {0, -9}
        async with app_at(home) as app:
            there = await held(app)
            own = await app.remember.get("own")
            assert own in {None, "mine"}
            if mode == "--merge":
                assert own == "mine"
                assert 0 in there
            elif own == "mine":  # nothing was dropped yet, so nothing is there yet
                assert there == {0}
            await app.restore(str(path))
            app.l1.clear()
            assert await held(app) == set(range(ENTRIES))
