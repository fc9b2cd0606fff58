"""F10: a search inside the engine: from L1, from L2 in a new process, with a slow model.

    python bench/search_path.py [--quick] [--json]

A project of 50,000 chunks is indexed once. The control is the same question with the cache
switched off: embedded, searched in the index, its files looked at. The project counts as watched,
as it is under `serve` or in an editor, so that no arm lists its files. Questions are asked once
each round, in turn, in one process; those from L2 in processes of their own, each of which asks
a question first that none of them counts, so that its index is open.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import kit
import msgspec

from querycache.assembly import App
from querycache.origins.embedder_local import LocalEmbedder
from querycache.ports.origins import Role

if TYPE_CHECKING:
    from querycache.ports.origins import Vectors

CHUNKS, QUICK_CHUNKS = 50_000, 5_000
CHUNKS_A_FILE = 12  # about; more files are added until there are enough
MODEL_S = 0.02
MOST_FROM_L1, MOST_FROM_L2, LEAST_WARM = 1 / 50, 1 / 3, 20.0
PROJECT = "bench"
WARM_UP = "where does a connection time out"
QUESTIONS = [
    f"{what} {of}"
    for of in ("a socket", "an archive", "a header", "a thread pool", "a module")
    for what in ("how to open", "who closes", "parse the name of", "errors of", "tests for")
]


class Slow(LocalEmbedder):
    """The default model, as far away as a server: each call takes 20 ms more."""

    async def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        await asyncio.sleep(MODEL_S)
        return await super().embed(texts, role)


async def built(folder: Path, wanted: int) -> int:
    """Has a project of at least `wanted` chunks in `folder`; returns how many."""
    root, home = folder / "project", folder / "home"
    files = kit.sources(1 << 20)
    async with kit.app_at(home) as app:
        if PROJECT in app.indexes.names():
            return (await app.index(str(root), PROJECT)).chunks
        chunks = count = 0
        while chunks < wanted and count < len(files):
            count += max(200, (wanted - chunks) // CHUNKS_A_FILE)
            kit.copy_project(files[:count], root)
            chunks = (await app.index(str(root), PROJECT)).chunks
            kit.say(f"F10: {chunks} chunks indexed")
        return chunks


async def timed(app: App, question: str, tier: str) -> float:
    """Seconds of one search, which must come from `tier`."""
    began = time.perf_counter()
    found = await app.search(question, PROJECT, record=False)
    took = time.perf_counter() - began
    assert found.results, question
    assert found.cache.tier == tier, f"{question!r} from {found.cache.tier}, not {tier}"
    return took


async def asked(app: App, tier: str) -> list[float]:
    return [await timed(app, question, tier) for question in QUESTIONS]


async def worker(home: Path, cached: bool) -> None:  # noqa: FBT001 -- from the command line
    """A new process: its first search, then the questions from L2 (or with the cache off)."""
    off = {} if cached else {"CACHE_ENABLED": "false"}
    async with kit.app_at(home, **off) as app:
        tier = "l2" if cached else "none"
        first = await timed(app, WARM_UP, tier)
        print(msgspec.json.encode([first, *await asked(app, tier)]).decode())


def in_new_process(home: Path, *, cached: bool) -> list[float]:
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", str(home)]
    out = subprocess.run(  # noqa: S603 -- this very file
        [*command, "cached" if cached else "uncached"], stdout=subprocess.PIPE, check=True
    ).stdout
    return msgspec.json.decode(out, type=list[float])


async def from_tiers(home: Path, rounds: int) -> list[kit.Row]:
    l1: list[float] = []
    l2: list[float] = []
    first: list[float] = []
    took: dict[str, list[float]] = {"l1": [], "l2": [], "control": []}
    async with kit.app_at(home) as app, kit.app_at(home, CACHE_ENABLED="false") as off:
        watch = app.indexes.try_lock(PROJECT, "watch")
        assert watch is not None
        for each in (app, off):
            for question in (WARM_UP, *QUESTIONS):
                await each.search(question, PROJECT, record=False)
        for number in range(rounds):
            took["control"] += (plain := await asked(off, "none"))
            took["l1"] += (near := await asked(app, "l1"))
            opening, *shared = await asyncio.to_thread(in_new_process, home, cached=True)
            plain_opening, *apart = await asyncio.to_thread(in_new_process, home, cached=False)
            took["l2"] += shared
            l1.append(median(near) / median(plain))
            l2.append(median(shared) / median(apart))
            first.append(opening / plain_opening)
            kit.say(f"F10: round {number + 1} of {rounds}")
        watch.release()
    ms = ", ".join(f"{who} {1e3 * median(times):.2f} ms" for who, times in took.items())
    return [
        kit.Row(
            "F10",
            "search in the engine, from L1; control = the uncached question",
            "≤ 1/50",
            f"1/{1 / median(l1):.0f}",
            median(l1) <= MOST_FROM_L1,
            ms,
        ),
        kit.Row(
            "F10",
            "the same from L2 in a new process",
            "≤ 1/3",
            f"1/{1 / median(l2):.1f}",
            median(l2) <= MOST_FROM_L2,
            f"the very first search of a process, beside one without the cache:"
            f" 1/{1 / median(first):.1f}",
        ),
    ]


async def with_slow_model(home: Path, rounds: int) -> list[kit.Row]:
    cold: list[float] = []
    warm: list[float] = []
    async with kit.app_at(home) as app:
        app.embedder = Slow()
        watch = app.indexes.try_lock(PROJECT, "watch")
        assert watch is not None
        await app.search(WARM_UP, PROJECT, record=False)
        for number in range(rounds):
            for place, question in enumerate(QUESTIONS):
                new = f"{question} in round {number} {place}"
                cold.append(await timed(app, new, "none"))
                warm.append(await timed(app, new, "l1"))
        watch.release()
    times = kit.ratio(cold, warm)
    return [
        kit.Row(
            "F10",
            "with a model that takes 20 ms, warm beside cold",
            f"≥ {LEAST_WARM:.0f} x faster",
            f"{times:.0f} x",
            times >= LEAST_WARM,
            f"cold {1e3 * median(cold):.1f} ms, warm {1e3 * median(warm):.2f} ms",
        )
    ]


async def measure(options: kit.Options) -> Sequence[kit.Row]:
    wanted = QUICK_CHUNKS if options.quick else CHUNKS
    with kit.scratch(options.shared, f"chunks-{wanted}") as folder:
        chunks = await built(folder, wanted)
        home = folder / "home"
        rows = await from_tiers(home, options.rounds)
        rows += await with_slow_model(home, options.rounds)
    told = [msgspec.structs.replace(row, what=f"{row.what} ({chunks:,} chunks)") for row in rows]
    if chunks >= CHUNKS:
        return told
    return [msgspec.structs.replace(row, met=None) for row in told]  # the goal is for more


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        asyncio.run(worker(Path(sys.argv[2]), sys.argv[3] == "cached"))
        return
    kit.run(__doc__, measure)


if __name__ == "__main__":
    main()
