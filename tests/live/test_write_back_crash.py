"""Write-back and a crash (F25): what a killed process loses is what waited, and with a journal
nothing.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import pytest
from tests.live.write_back_process import BACK, CLOCK, KEYS, LIMITS, name, started

pytestmark = [pytest.mark.asyncio, pytest.mark.live, pytest.mark.alone]

ROOT = Path(__file__).parents[2]


async def killed(folder: Path, seed: int, *, journal: bool) -> dict[int, list[tuple[int, float]]]:
    """By key, the numbers that a process had acknowledged before it was killed at a random moment,
    and when; oldest first.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-m", "tests.live.write_back_process"),
        *(str(folder), str(int(journal)), str(seed)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 26,
    )
    assert process.stdout is not None
    acknowledged: dict[int, list[tuple[int, float]]] = {}
    try:
        assert await process.stdout.readline() == b"open\n"
        until = CLOCK.monotonic() + random.Random(seed).uniform(0.02, 0.4)
        text = b"0"
        while text:
            text = await process.stdout.readline()
            if text.endswith(b"\n"):
                key, number, waiting = map(int, text.split())
                assert waiting <= LIMITS.entries
                acknowledged.setdefault(key, []).append((number, CLOCK.monotonic()))
            if CLOCK.monotonic() > until and process.returncode is None:
                until = float("inf")
                process.send_signal(signal.SIGKILL)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    return acknowledged


async def trial(folder: Path, seed: int, *, journal: bool) -> tuple[int, float]:
    """How many acknowledged sets were lost, and the age of the oldest of them in seconds."""
    acknowledged = await killed(folder, seed, journal=journal)
    core, tier = started(str(folder), journal=journal)
    try:
        await core.settle()
        lost, oldest = 0, 0.0
        end = max((at for sets in acknowledged.values() for _, at in sets), default=0.0)
        for key in range(KEYS):
            found = (await core.get(name(key), BACK)).value
            sets = acknowledged.get(key, [])
            numbers = [number for number, _ in sets]
            assert found is None or isinstance(found, int)
            if found is not None and (not numbers or found > numbers[-1]):
                continue  # set, and killed before it was acknowledged
            place = numbers.index(found) + 1 if found is not None else 0  # an older one, or none
            lost += len(numbers) - place
            if place < len(numbers):
                oldest = max(oldest, end - sets[place][1])
    finally:
        await core.close()
        await tier.close()
    return lost, oldest


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(10))
async def test_a_killed_process_loses_only_what_waited(tmp_path: Path, seed: int) -> None:
    lost, oldest = await trial(tmp_path, seed, journal=False)
    assert lost <= LIMITS.entries
    assert oldest <= LIMITS.interval_s + 0.5  # the machine of the test may be busy


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(10))
async def test_with_a_journal_a_killed_process_loses_nothing(tmp_path: Path, seed: int) -> None:
    assert await trial(tmp_path, seed, journal=True) == (0, 0.0)
    assert list((tmp_path / "journal").iterdir()) == []


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("journal", [False, True])
async def test_two_hundred_kills(tmp_path: Path, journal: bool) -> None:  # noqa: FBT001 -- a case
    for seed in range(100, 300):
        folder = tmp_path / str(seed)
        folder.mkdir()
        lost, oldest = await trial(folder, seed, journal=journal)
        assert lost <= (0 if journal else LIMITS.entries)
        assert oldest <= LIMITS.interval_s + 0.5


async def test_a_journal_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    one, first = started(str(tmp_path), journal=True)
    two, second = started(str(tmp_path), journal=True)
    await one.put({name(1): 1}, BACK, tags=("all",))
    await two.settle()
    assert (await two.get(name(1), BACK)).value is None
    assert len(one.write_back.queue) == 1
    for core, tier in ((one, first), (two, second)):
        await core.close()
        await tier.close()


async def test_a_forked_child_leaves_what_waits_to_its_parent(tmp_path: Path) -> None:
    core, tier = started(str(tmp_path), journal=True)
    await core.put({name(1): 1}, BACK, tags=("all",))
    child = os.fork()
    if not child:
        os._exit(len(core.write_back.queue))
    _, status = os.waitpid(child, 0)  # noqa: ASYNC222 -- it ends at once
    assert os.waitstatus_to_exitcode(status) == 0
    assert await core.flush() == 1
    await core.close()
    await tier.close()
