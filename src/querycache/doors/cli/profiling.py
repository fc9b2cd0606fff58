"""Sets and reads under a profiler, and the memory of a process over time."""

from __future__ import annotations

import asyncio
import cProfile
import os
import pstats
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from querycache.doors.cli.running import act
from querycache.errors import UsageError

if TYPE_CHECKING:
    from querycache.assembly import App
    from querycache.ports.tiers import L1Info

_TOP = 20
_TTL_S = 60.0
_LARGE = "x" * 10_000
_OWN_OPERATIONS = 1000
_BATCH = 500
_MB = 1024 * 1024

Tell = Callable[[str], object]


class Spent(msgspec.Struct, frozen=True):
    """One function: how often it was called, and the seconds in it, with and without what it
    called.
    """

    function: str
    calls: int
    cumulative_s: float
    own_s: float


class Timed(msgspec.Struct, frozen=True):
    """A profile: so many entries set and read, the file that holds it, and the functions that took
    longest.
    """

    operations: int
    seconds: float
    calls: int
    file: str
    functions: list[Spent]


class Profiled(NamedTuple):
    """The figures, and the same as the table of pstats."""

    figures: Timed
    table: str


class Followed(msgspec.Struct, frozen=True):
    """The memory of a process, in bytes: each sample is the seconds since the baseline and what it
    had in memory then. `ended` says why there are no more. For this very process: the entries that
    it set, what L1 counts for them, and L1's bound.
    """

    pid: int
    door: str
    baseline_bytes: int
    samples: list[tuple[float, int]]
    growth_bytes: int
    ended: str
    operations: int | None = None
    l1_bytes: int | None = None
    l1_max_bytes: int | None = None


# --- time ----------------------------------------------------------------------------------------


def timed(operations: int, output: Path) -> Profiled:
    """Sets and reads `operations` entries under a profiler, and removes them. Raises `OSError`."""
    profiler = cProfile.Profile()

    async def work(app: App) -> None:
        keys = [f"profile_key_{number}" for number in range(operations)]
        remember = app.remember
        profiler.enable()
        try:
            for number, key in enumerate(keys):
                await remember.set(key, f"value_{number}", ttl=_TTL_S)
                await remember.get(key)
        finally:
            profiler.disable()
            await _removed(app, keys)

    act("profile", work)
    profiler.dump_stats(output)
    text = StringIO()
    stats = pstats.Stats(str(output), stream=text)
    stats.sort_stats("cumulative").print_stats(_TOP)
    counted = cast("Any", stats)  # its figures have no types
    rows = sorted(counted.stats.items(), key=lambda row: -row[1][3])[:_TOP]
    spent = [
        Spent(f"{file}:{line}({name})", calls, round(whole, 6), round(own, 6))
        for (file, line, name), (_, calls, own, whole, _) in rows
    ]
    seconds, calls = round(counted.total_tt, 6), counted.total_calls
    return Profiled(Timed(operations, seconds, calls, str(output), spent), text.getvalue())


# --- memory --------------------------------------------------------------------------------------


def followed(
    pid: int | None, operations: int | None, *, duration_s: float, interval_s: float, tell: Tell
) -> Followed:
    """Follows process `pid`, else the querycache process that runs longest; without one, or with
    `operations`, this very process while it sets so many large entries. Raises `UsageError`.
    """
    living = _living() if operations is None else []
    if pid is None and living:
        pid = living[0][0]
    if pid is None:
        return _own(operations or _OWN_OPERATIONS, tell)
    door = dict(living).get(pid, "")
    baseline = _memory_of(pid)
    if baseline is None:
        raise UsageError(
            f"process {pid} can't be looked at",
            remedy="querycache stats names the living processes",
        )
    tell(f"Process {pid}{f' ({door})' if door else ''}")
    tell(f"Baseline memory: {baseline / _MB:.1f} MB")
    samples: list[tuple[float, int]] = []
    ended = "time"
    never = Event()
    try:
        for turn in range(1, round(duration_s / interval_s) + 1):
            never.wait(interval_s)
            now = _memory_of(pid)
            if now is None:
                ended = "the process ended"
                tell(f"Process {pid} ended")
                break
            samples.append((round(turn * interval_s, 3), now))
            tell(_line(samples[-1][0], now, baseline))
    except KeyboardInterrupt:
        ended = "interrupted"
    last = samples[-1][1] if samples else baseline
    return Followed(pid, door, baseline, samples, last - baseline, ended)


def write(seen: Followed, output: Path) -> None:
    """Writes what was seen as JSON. Raises `OSError`."""
    output.write_bytes(msgspec.json.format(msgspec.json.encode(seen), indent=1) + b"\n")


def _own(operations: int, tell: Tell) -> Followed:
    """This very process: sets large entries, and tells how much it grew for them."""
    pid = os.getpid()
    baseline = 0
    samples: list[tuple[float, int]] = []
    done = 0
    held: L1Info | None = None

    async def work(app: App) -> None:
        nonlocal baseline, done, held
        await app.remember.set("large_key_warm", _LARGE, ttl=_TTL_S)  # loads what it needs
        keys = ["large_key_warm"]
        baseline = _memory_of(pid) or 0
        tell(f"Process {pid} (this one)")
        tell(f"Baseline memory: {baseline / _MB:.1f} MB")
        began = app.clock.monotonic()
        try:
            for number in range(operations):
                await app.remember.set(f"large_key_{number}", _LARGE + str(number), ttl=_TTL_S)
                keys.append(f"large_key_{number}")
                done += 1
                if done % _BATCH == 0 or done == operations:
                    await app.memory.turn()  # no background work runs here
                    took = round(app.clock.monotonic() - began, 1)
                    samples.append((took, _memory_of(pid) or 0))
                    tell(_line(took, samples[-1][1], baseline))
        finally:
            held = app.l1.info()
            await _removed(app, keys)

    ended = "time"
    try:
        act("profile", work)
    except KeyboardInterrupt:
        ended = "interrupted"
    growth = samples[-1][1] - baseline if samples else 0
    if held is not None:
        tell(
            f"Set {done:,} entries of {len(_LARGE):,} characters: {growth / _MB:+.1f} MB;"
            f" L1 counts {held.bytes / _MB:.1f} of at most {held.max_bytes / _MB:.0f} MB"
        )
    return Followed(
        pid,
        "profile",
        baseline,
        samples,
        growth,
        ended,
        done,
        held.bytes if held else None,
        held.max_bytes if held else None,
    )


async def _removed(app: App, keys: list[str]) -> None:
    for start in range(0, len(keys), _BATCH):
        await app.remember.delete_batch(keys[start : start + _BATCH])


def _living() -> list[tuple[int, str]]:
    """The querycache processes that are alive, longest running first, and what each does."""

    async def look(app: App) -> list[tuple[int, str]]:
        living = await asyncio.to_thread(app.registry.living)
        return [(told.pid, told.door) for told in living]

    return act("profile", look)


def _memory_of(pid: int) -> int | None:
    from querycache.assembly.memory import resident

    try:
        return resident(pid)
    except LookupError:
        return None


def _line(seconds: float, now: int, baseline: int) -> str:
    growth = (now - baseline) / _MB
    return f"Memory after {seconds:g}s: {now / _MB:.1f} MB ({growth:+.1f} MB)"
