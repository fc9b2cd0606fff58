"""How fast files are cut into chunks, and how large the chunks are.

    python bench/chunking.py DIRECTORY [--processes 1]

Every file under DIRECTORY that has a grammar goes through `TreeSitterParser` (pipes and all), then
through the same code in this process: the difference is what the separate process costs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from pathlib import Path

from querycache.origins.chunking import chunks_of
from querycache.origins.languages import GRAMMARS, language_of
from querycache.origins.parser import MAX_BYTES, TreeSitterParser
from querycache.origins.parser_worker import cut
from querycache.ports.origins import ParsedFile


def sources(root: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if language_of(name) in GRAMMARS and path.is_file():
                found[str(path)] = path.read_bytes()
    return {path: data for path, data in found.items() if 0 < len(data) <= MAX_BYTES}


async def through_processes(
    files: dict[str, bytes], processes: int
) -> tuple[float, float, list[ParsedFile], float]:
    parser = TreeSitterParser(processes=processes)
    begun = time.perf_counter()
    await parser.parse("a.py", b"pass\n")
    started = time.perf_counter()
    lag = 0.0
    finished = asyncio.Event()

    async def watch_lag() -> None:
        nonlocal lag
        while not finished.is_set():
            then = time.perf_counter()
            await asyncio.sleep(0.001)
            lag = max(lag, time.perf_counter() - then - 0.001)

    async with asyncio.TaskGroup() as group:
        group.create_task(watch_lag())
        parsed = await asyncio.gather(*(parser.parse(path, data) for path, data in files.items()))
        done = time.perf_counter()
        finished.set()
    await parser.close()
    return started - begun, done - started, parsed, lag


def in_process(files: dict[str, bytes]) -> float:
    for name in {language_of(path) for path in files}:
        cut(name, b"\n")
    started = time.perf_counter()
    for path, data in files.items():
        chunks_of(data, cut(language_of(path), data).cuts)
    return time.perf_counter() - started


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("directory", type=Path)
    arguments.add_argument("--processes", type=int, default=1)
    options = arguments.parse_args()
    files = sources(options.directory)
    size = sum(map(len, files.values()))
    start, took, parsed, lag = asyncio.run(through_processes(files, options.processes))
    plain = in_process(files)
    lengths = sorted(c.end - c.start for p in parsed for c in p.chunks)
    named = sum(bool(c.symbol) for p in parsed for c in p.chunks)
    at = statistics.quantiles(lengths, n=20)
    print(f"{len(files)} files, {size / 1e6:.2f} MB, {len(lengths)} chunks, {named} with a symbol")
    print(f"start {start * 1e3:.0f} ms")
    for way, seconds in (("through the process", took), ("without it", plain)):
        print(f"{way}: {len(files) / seconds:.0f} files/s, {size / seconds / 1e6:.1f} MB/s")
    print(f"chunk bytes p50 {at[9]:.0f}, p95 {at[18]:.0f}, max {lengths[-1]}")
    print(f"files with errors {sum(p.had_errors for p in parsed)}; loop lag {lag * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
