"""The embedded store between real processes: killed, many at once, forked."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.live.sqlite_process import CLOCK, Event, content, entry, opened

from querycache.clock import SystemClock
from querycache.tiers.sqlite import SqliteTier

pytestmark = [pytest.mark.asyncio, pytest.mark.live]

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def started(*arguments: str) -> AsyncGenerator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-m", "tests.live.sqlite_process", *arguments),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 28,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line(process: Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


async def release(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    await process.stdin.drain()


def integrity(folder: Path) -> str:
    connection = sqlite3.connect(folder / "l2.sqlite")
    try:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()


async def kill_while_writing(folder: Path, seed: int) -> float:
    """Kills a writer at a random moment; checks what is left; says how long opening took."""
    async with started("numbered_writes", str(folder)) as process:
        assert await line(process) == "open"
        clock = SystemClock()
        until = clock.monotonic() + random.Random(seed).uniform(0.03, 0.15)
        acknowledged = -1
        while clock.monotonic() < until:
            acknowledged = int(await line(process))
        process.send_signal(signal.SIGKILL)
        while text := await line(process):
            acknowledged = int(text)
    began = clock.monotonic()
    tier = opened(str(folder))
    took = clock.monotonic() - began
    assert tier.rebuilt == 0
    numbers = range(acknowledged + 2)
    found = await tier.read([f"k:{number}" for number in numbers])
    for number, read in zip(numbers, found, strict=True):
        wanted = {content(number)} if number <= acknowledged else {None, content(number)}
        assert read.data in wanted, (seed, number)
    bumped = [f"t:{number}" for number in range(9, acknowledged + 1, 10)]
    assert all(stamp.number for stamp in (await tier.stamps(bumped)).values())
    changes = tier.backplane.drain()
    if changes.seen == -1:
        await tier.bump(["mends"])
        changes = tier.backplane.drain()
    assert changes.seen == tier.backplane.epoch[0]
    await tier.close()
    assert integrity(folder) == "ok"
    return took


async def test_nothing_acknowledged_is_lost_when_a_writer_is_killed(tmp_path: Path) -> None:
    for seed in range(20):
        await kill_while_writing(tmp_path / str(seed), seed)


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_nothing_acknowledged_is_lost_in_a_thousand_kills(tmp_path: Path) -> None:
    for seed in range(1000):
        await kill_while_writing(tmp_path / str(seed % 50), seed)


@pytest.mark.parametrize("moment", ["begun", "committed"])
async def test_a_writer_killed_beside_the_words_is_mended(tmp_path: Path, moment: str) -> None:
    reader = opened(str(tmp_path))
    seen = reader.backplane.drain().seen
    before = await reader.stamps(["t"])
    async with started("die_between", str(tmp_path), moment) as process:
        assert await process.wait() == -signal.SIGKILL
    assert reader.backplane.epoch[0] != seen
    changes = reader.backplane.drain()
    assert changes.seen == -1
    assert ("t" in changes.tags) == (moment == "committed")
    assert ((await reader.stamps(["t"])) != before) == (moment == "committed")
    async with asyncio.timeout(10):
        while reader.backplane.drain().seen != reader.backplane.epoch[0]:  # noqa: ASYNC110 -- a thread mends it
            await asyncio.sleep(0.005)
    await reader.close()


async def test_four_processes_write_and_read_without_an_error(tmp_path: Path) -> None:
    opened(str(tmp_path))._store.close()  # pyright: ignore[reportPrivateUsage]  # made, and left
    results = await asyncio.gather(*(mixed(tmp_path, seed, 3.0) for seed in range(4)))
    assert sum(wrong for wrong, _ in results) == 0
    assert all(took for _, took in results)
    assert integrity(tmp_path) == "ok"


async def mixed(folder: Path, seed: int, seconds: float) -> tuple[int, list[float]]:
    async with started("mixed_load", str(folder), str(seed), str(seconds)) as process:
        found = json.loads(await line(process))
        assert await process.wait() == 0
        return found["wrong"], found["took"]


class Verdict:
    """What the operations of all processes say about coherence."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.reads = self.stale = self.future = 0
        self.longest_s = 0.0
        writes: dict[str, list[Event]] = {}
        for event in sorted(events, key=lambda event: event.end):
            if event.what != "get":
                writes.setdefault(event.key, []).append(event)
        made = {event.value: event for event in events if event.what == "set"}
        for event in events:
            if event.what == "get" and event.value:
                self.reads += 1
                self._judge(event, made[event.value], writes[event.key])

    def _judge(self, read: Event, origin: Event, writes: Sequence[Event]) -> None:
        self.future += read.end < origin.start
        for write in writes:
            if write.end >= read.start:
                break
            if write.start > origin.end:  # surely later than what was read
                self.stale += 1
                self.longest_s = max(self.longest_s, read.start - write.end)
                break


async def coherence(folder: Path, seconds: float, share: float) -> tuple[Verdict, int, int]:
    """Four processes at once; the verdict, how many keys they differ on at the end, L1 hits."""
    opened(str(folder))._store.close()  # pyright: ignore[reportPrivateUsage]  # made, and left
    arguments = [
        ("coherent_load", str(folder), f"p{n}", str(seconds), str(share)) for n in range(4)
    ]
    async with (
        started(*arguments[0]) as first,
        started(*arguments[1]) as second,
        started(*arguments[2]) as third,
        started(*arguments[3]) as fourth,
    ):
        processes = (first, second, third, fourth)
        for wanted in ("open", "done"):
            for process in processes:
                assert await line(process) == wanted
            for process in processes:
                await release(process)
        reports = [json.loads(await line(process)) for process in processes]
    events = [Event(*event) for report in reports for event in report["events"]]
    last: list[dict[str, str]] = [report["last"] for report in reports]
    diverged = sum(len({held[key] for held in last}) > 1 for key in last[0])
    return Verdict(events), diverged, sum(report["hits"] for report in reports)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
async def test_no_process_reads_what_another_replaced(tmp_path: Path, share: float) -> None:
    verdict, diverged, hits = await coherence(tmp_path, 2.0, share)
    assert verdict.reads > 500
    assert hits > 100
    assert (verdict.stale, verdict.future, diverged) == (0, 0, 0), verdict.longest_s


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
async def test_no_process_ever_reads_what_another_replaced(tmp_path: Path, share: float) -> None:
    for round_ in range(10):
        verdict, diverged, _ = await coherence(tmp_path / str(round_), 20.0, share)
        assert (verdict.stale, verdict.future, diverged) == (0, 0, 0), verdict.longest_s


async def test_the_judge_finds_what_is_stale() -> None:
    old, new = Event("set", "k", "old", 0.0, 1.0), Event("set", "k", "new", 2.0, 3.0)
    verdict = Verdict([old, new, Event("get", "k", "old", 3.5, 3.6)])
    assert (verdict.reads, verdict.stale, verdict.future) == (1, 1, 0)
    assert verdict.longest_s == pytest.approx(0.5)
    assert Verdict([old, new, Event("get", "k", "old", 2.5, 2.6)]).stale == 0
    assert Verdict([old, Event("delete", "k", "", 2.0, 3.0), Event("get", "k", "old", 4, 5)]).stale
    assert Verdict([new, Event("get", "k", "new", 0.5, 0.6)]).future == 1


async def in_child(tier: SqliteTier) -> str:
    """What a forked child finds, on its parent's tier."""
    if (await tier.read(["parent's"]))[0].data != b"1":
        return "the parent's entry is not read"
    if await tier.write([entry("child's", b"2")]) != [True]:
        return "the child can't write"
    if (await tier.read(["child's"]))[0].data != b"2":
        return "the child's entry is not read"
    await tier.bump(["t"])
    if tier.backplane.drain().bypass or tier.backplane.drain().bypass:
        return "the child is deaf"
    return ""


def forked(tier: SqliteTier) -> int:
    """Forks; the exit status of a child that used the tier."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 1 if asyncio.run(in_child(tier)) else 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_a_forked_child_is_a_process_of_its_own(tmp_path: Path) -> None:
    tier = opened(str(tmp_path))
    await tier.write([entry("parent's", b"1")])
    seen = tier.backplane.drain().seen
    for _ in range(5):
        assert await asyncio.to_thread(forked, tier) == 0
        assert tier.backplane.epoch[0] != seen
        changes = tier.backplane.drain()
        assert list(changes.keys) == ["child's"]
        assert list(changes.tags) == ["t"]
        assert not changes.lost
        seen = changes.seen
        assert (await tier.read(["child's"]))[0].data == b"2"
        assert await tier.write([entry("parent's", b"1")]) == [True]
        seen = tier.backplane.drain().seen
    assert tier.rebuilt == 0
    await tier.close()
    assert integrity(tmp_path) == "ok"


async def test_a_stopped_writer_stops_nobodys_reads(tmp_path: Path) -> None:
    tier = opened(str(tmp_path))
    async with started("numbered_writes", str(tmp_path)) as process:
        assert await line(process) == "open"
        for _ in range(20):
            await line(process)
        process.send_signal(signal.SIGSTOP)
        began = CLOCK.monotonic()
        for number in range(200):
            assert (await tier.read([f"k:{number % 10}"]))[0].data == content(number % 10)
        assert CLOCK.monotonic() - began < 5.0
        process.send_signal(signal.SIGCONT)
        await line(process)
    await tier.close()
