"""How fast the embedders are: start, texts a second, one query, and how long the loop waits.

    python bench/embedders.py [--texts DIR] [--minilm FOLDER]

Texts are pieces of 949 characters of the Python files below DIR (default: the standard library).
The remote embedder asks the tests' server in this very process, so its figures hold both ends.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.live.openai_server import Server

from querycache.clock import SystemClock
from querycache.origins.embedder_local import LocalEmbedder
from querycache.origins.embedder_minilm import MiniLMEmbedder
from querycache.origins.embedder_remote import RemoteEmbedder, RemoteSettings
from querycache.origins.identifiers import split_identifiers
from querycache.ports.origins import Embedder

if TYPE_CHECKING:
    from querycache.ports.origins import Vectors

PIECE = 949
QUERY = "how is the session cookie signed"


def pieces(folder: Path, count: int) -> list[str]:
    found: list[str] = []
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
        if len(found) >= 20 * count:
            break
    random.Random(0).shuffle(found)  # noqa: S311 -- a sample, no secret
    return [text for text in found if text.strip()][:count]


async def longest_wait(work: asyncio.Task[Vectors]) -> float:
    """The longest time in ms that the loop was kept from its other work."""
    longest = 0.0
    while not work.done():
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        longest = max(longest, time.perf_counter() - before - 0.001)
    return longest * 1e3


async def measure(embedder: Embedder, texts: Sequence[str], queries: int) -> None:
    before = time.perf_counter()
    await embedder.start()
    start = (time.perf_counter() - before) * 1e3
    rates: list[float] = []
    for _ in range(3):
        before = time.perf_counter()
        await embedder.embed(texts, "document")
        rates.append(len(texts) / (time.perf_counter() - before))
    times: list[float] = []
    for _ in range(queries):
        before = time.perf_counter()
        await embedder.embed([QUERY], "query")
        times.append((time.perf_counter() - before) * 1e6)
    wait = await longest_wait(asyncio.ensure_future(embedder.embed(texts, "document")))
    print(
        f"{embedder.name:8} start {start:7.1f} ms   {max(rates):8.1f} texts/s   "
        f"query p50 {statistics.median(times):8.1f} us   loop waits {wait:5.1f} ms"
    )
    print(f"{'':8} {embedder.identity}")
    await embedder.close()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=Path, default=Path(sysconfig.get_path("stdlib")))
    parser.add_argument("--minilm", type=Path)
    chosen = parser.parse_args()
    texts = pieces(chosen.texts, 3_000)
    size = sum(len(text.encode()) for text in texts) / 1e6
    before = time.perf_counter()
    for text in texts:
        split_identifiers(text)
    print(f"identifiers split: {size / (time.perf_counter() - before):.1f} MB/s")
    await measure(LocalEmbedder(), texts, 2_000)
    if chosen.minilm:
        await measure(MiniLMEmbedder(chosen.minilm), texts[:200], 100)
    with Server(dimensions=384) as server:
        settings = RemoteSettings(dialect="openai", url=server.url, model="bench")
        await measure(RemoteEmbedder(settings, SystemClock()), texts[:640], 100)


asyncio.run(main())
