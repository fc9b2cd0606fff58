"""A back-up of many entries and its restore, between an embedded store and a Redis of our own.

    python bench/backup.py [ENTRIES]

SQLite -> file -> Redis -> file -> SQLite, each step in a process of its own; what is printed is
how many entries a second each took, how large the file is, and how far the process's memory grew
from before the step to its peak. Entries are embeddings of 64 numbers, search answers and values
of a caller, 300 bytes on average; each depends on the counters of its kind and of one of 50
projects.
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import kit
import numpy as np

from querycache.assembly import App
from querycache.ports.codec import Form, Record, Shape
from querycache.ports.tiers import Write
from querycache.values import Kind

ENTRIES = 1_000_000
PART = 500
LIFE_S = 86_400.0
KINDS = (Kind.EMBEDDING, Kind.EMBEDDING, Kind.SEARCH, Kind.OTHER)
MB = 1024


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MB


async def fill(app: App, entries: int) -> None:
    """Entries as the cache writes them."""
    numbers = np.random.default_rng(7)
    now = app.clock.wall()
    tags = [f"project:p{n}" for n in range(50)] + [f"kind:{kind}" for kind in Kind]
    stamps = await app.core.l2.stamps(tags)
    for start in range(0, entries, PART):
        vectors = numbers.standard_normal((PART, 64), dtype=np.float32)
        writes: list[Write] = []
        for n in range(PART):
            kind, project = KINDS[n % len(KINDS)], f"p{(start + n) % 50}"
            vector = kind is Kind.EMBEDDING
            shape = Shape(form=Form.VECTOR if vector else Form.MSGPACK)
            value = vectors[n] if vector else numbers.bytes(60).hex()
            own = tuple((tag, stamps[tag]) for tag in (f"kind:{kind}", f"project:{project}"))
            name = f"{app.namer.prefix}:{kind}:{project}:{start + n:032x}"
            body = app.codec.encode(value, shape)
            record = Record(name, body, now, now + LIFE_S, now + LIFE_S, 0.01, own)
            data = app.codec.seal(record, shape)
            writes.append(
                Write(name, data, record.expires_at, tuple(t for t, _ in own), None, tell=False)
            )
        await app.core.l2.write(writes)


async def step(what: str, home: Path, url: str, file: str, entries: int) -> None:
    variables = {"REDIS_URL": url} if url else {"CACHE_SQLITE_MAX_MB": "4096"}
    async with kit.app_at(home, **variables, CACHE_L2_DEADLINE_MS="2000") as app:
        info = await app.core.l2.info()
        if what == "fill":
            await fill(app, entries)
            return
        before, began = peak_mb(), time.monotonic()
        done = await (app.back_up(file) if what == "back up" else app.restore(file))
        took = time.monotonic() - began
    size = os.stat(file).st_size / MB / MB  # noqa: PTH116 -- nothing else runs
    said = f"{what:8} {info.backend:7} {done.entries:>9,} entries in {took:6.1f} s"
    rate, grew = done.entries / took, peak_mb() - before
    print(f"{said}  {rate:>8,.0f}/s  file {size:6.1f} MB  peak memory +{grew:.0f} MB", flush=True)
    assert (done.entries, done.skipped, done.failed) == (entries, 0, 0), done


def main() -> None:
    if len(sys.argv) > 2:  # noqa: PLR2004 -- one of our own processes
        what, home, url, file, entries = sys.argv[1:]
        asyncio.run(step(what, Path(home), url, file, int(entries)))
        return
    entries = int(sys.argv[1]) if sys.argv[1:] else ENTRIES
    with kit.scratch() as folder, kit.redis_at(folder) as (path, _):
        url = f"unix://{path}"
        first, last = str(folder / "first.qcb"), str(folder / "last.qcb")
        for what, home, where, file in (
            ("fill", "a", "", first),
            ("back up", "a", "", first),
            ("restore", "a", url, first),
            ("back up", "a", url, last),
            ("restore", "b", "", last),
        ):
            words = (what, str(folder / home), where, file, str(entries))
            subprocess.run([sys.executable, __file__, *words], check=True)  # noqa: S603 -- this file


if __name__ == "__main__":
    main()
