"""What one uncached question costs at size, and its parts.

    python bench/index_scale.py GITDIR:COMMIT … [--chunks 50000]

Chunks of the named repositories, repeated with changed words until there are enough, indexed by
the product's own classes. Prints the median and the 95th percentile of each part over the
questions (the subjects of the repositories' last commits), the time to index, to reopen, to answer
the first question after one file changed, and the size on disk.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING

import msgspec

from querycache.origins.embedder_local import LocalEmbedder
from querycache.origins.index import SqliteIndex
from querycache.origins.indexes import SqliteIndexes
from querycache.origins.parser import TreeSitterParser
from querycache.ports.origins import Chunk, FileStat, IndexedChunk, IndexedFile, Mode, Question
from querycache.usecases.chunk_text import embedded_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

QUESTIONS = 200
_NAME = re.compile(r"[A-Za-z_]\w{4,}")
_SOURCES = (".py", ".md", ".rst", ".toml", ".yml", ".js", ".html")


def git(folder: str, *arguments: str) -> str:
    command = ["git", f"--git-dir={folder}", *arguments]
    done = subprocess.run(command, capture_output=True, check=True)  # noqa: S603 -- git
    return done.stdout.decode("utf-8", "replace")


async def real_chunks(folder: str, commit: str) -> list[tuple[str, str, tuple[Chunk, ...]]]:
    """(path, language, chunks) of every file that is worth indexing."""
    parser = TreeSitterParser(processes=2)
    found: list[tuple[str, str, tuple[Chunk, ...]]] = []
    for path in git(folder, "ls-tree", "-r", "--name-only", commit).splitlines():
        if path.endswith(_SOURCES):
            data = git(folder, "show", f"{commit}:{path}").encode()
            parsed = await parser.parse(path, data)
            found.append((path, parsed.language, parsed.chunks))
    await parser.close()
    return found


def perturbed(chunk: Chunk, round_: int) -> Chunk:
    """The chunk with a fifth of its longer names made names of this round."""
    choose = random.Random(f"{round_} {chunk.text}")  # noqa: S311 -- texts
    text = _NAME.sub(
        lambda name: f"{name[0]}{round_}" if choose.random() < 0.2 else name[0],  # noqa: PLR2004
        chunk.text,
    )
    return msgspec.structs.replace(chunk, text=text)


async def build(
    index: SqliteIndex,
    embedder: LocalEmbedder,
    real: Sequence[tuple[str, str, tuple[Chunk, ...]]],
    wanted: int,
) -> dict[str, float]:
    """Indexes until there are `wanted` chunks; seconds spent embedding and storing."""
    spent = {"embed": 0.0, "store": 0.0}
    have = round_ = 0
    while have < wanted:
        for start in range(0, len(real), 100):
            batch: list[tuple[str, str, list[Chunk], list[str]]] = []
            for path, language, chunks in real[start : start + 100]:
                changed = [perturbed(each, round_) if round_ else each for each in chunks]
                place = f"round{round_}/{path}" if round_ else path
                texts = [embedded_text(place, each, language) for each in changed]
                batch.append((place, language, changed, texts))
            began = time.perf_counter()
            vectors = iter(
                await embedder.embed([text for *_, texts in batch for text in texts], "document")
            )
            spent["embed"] += time.perf_counter() - began
            files = [
                file_of(place, language, chunks, texts, vectors)
                for place, language, chunks, texts in batch
            ]
            began = time.perf_counter()
            have = index.apply(files, [], []).chunks
            spent["store"] += time.perf_counter() - began
            if have >= wanted:
                break
        round_ += 1
    return spent


def file_of(
    path: str, language: str, chunks: list[Chunk], texts: list[str], vectors: Iterator[Vector]
) -> IndexedFile:
    pieces = tuple(
        IndexedChunk(chunk, hashed(text), next(vectors).tobytes())
        for chunk, text in zip(chunks, texts, strict=True)
    )
    return IndexedFile(FileStat(path, 1, 1, 1), hashed(repr(chunks)), language, pieces)


def hashed(text: str) -> str:
    return blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def timed(what: Callable[[], object]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    what()
    return 1e3 * (time.perf_counter() - began)


def show(title: str, took: Sequence[float]) -> None:
    print(
        f"{title:34} p50 {median(took):8.2f}  p95 {quantiles(took, n=20)[-1]:8.2f} ms", flush=True
    )


async def questions(embedder: LocalEmbedder, folders: Sequence[str]) -> list[Question]:
    texts = [
        line
        for folder in folders
        for line in git(folder, "log", "--no-merges", "--format=%s", "-n", "200").splitlines()
    ]
    chosen = random.Random(0).sample(texts, min(QUESTIONS, len(texts)))  # noqa: S311 -- a sample
    took: list[float] = []
    asked: list[Question] = []
    for text in chosen:
        began = time.perf_counter()
        vector = (await embedder.embed([text], "query"))[0].tobytes()
        took.append(1e3 * (time.perf_counter() - began))
        asked.append(Question(text, vector))
    show("embed the question", took)
    return asked


def ask_all(index: SqliteIndex, asked: Sequence[Question], **how: object) -> list[float]:
    changed = [msgspec.structs.replace(question, **how) for question in asked]
    index.search(changed[0])
    return [timed(partial(index.search, question)) for question in changed]


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("repositories", nargs="+", metavar="GITDIR:COMMIT")
    options.add_argument("--chunks", type=int, default=50_000)
    given = options.parse_args()
    pairs = [text.rsplit(":", 1) for text in given.repositories]
    embedder = LocalEmbedder()
    await embedder.start()
    real = [each for pair in pairs for each in await real_chunks(*pair)]
    with tempfile.TemporaryDirectory() as folder:
        open_index = partial(
            SqliteIndexes(folder).open,
            "bench",
            root=folder,
            versions="bench",
            dimensions=embedder.dimensions,
        )
        index = open_index()
        spent = await build(index, embedder, real, given.chunks)
        state = index.state()
        index.close()
        print(
            f"{state.files} files, {state.chunks} chunks, {on_disk(folder) / 1e6:.0f} MB;"
            f" embedded in {spent['embed']:.1f} s, stored in {spent['store']:.1f} s"
        )
        asked = await questions(embedder, [git_dir for git_dir, _ in pairs])
        began = time.perf_counter()
        index = open_index()
        print(f"reopen {1e3 * (time.perf_counter() - began):.1f} ms")
        first = timed(partial(index.search, asked[0]))
        print(f"first question, which loads all vectors {first:.0f} ms")
        show_parts(index, asked)
        await show_edits(index, embedder, real, asked)
        index.close()
    await embedder.close()


def on_disk(folder: str) -> int:
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def show_parts(index: SqliteIndex, asked: Sequence[Question]) -> None:
    modes: tuple[Mode, ...] = ("semantic", "keyword", "hybrid")
    for mode in modes:
        show(f"{mode}, ten hits", ask_all(index, asked, mode=mode))
        show(f"{mode}, no hit fetched", ask_all(index, asked, mode=mode, limit=0))
    show("hybrid, one language", ask_all(index, asked, language="markdown"))
    show("hybrid, one folder", ask_all(index, asked, path="round1/"))
    show("state()", [timed(index.state) for _ in range(200)])


async def show_edits(
    index: SqliteIndex,
    embedder: LocalEmbedder,
    real: Sequence[tuple[str, str, tuple[Chunk, ...]]],
    asked: Sequence[Question],
) -> None:
    edits: list[float] = []
    applied: list[float] = []
    for number, question in enumerate(asked[:50]):
        path, language, chunks = real[number * 7 % len(real)]
        edited = [perturbed(chunk, 1000 + number) for chunk in chunks]
        texts = [embedded_text(path, chunk, language) for chunk in edited]
        vectors = iter(await embedder.embed(texts, "document"))
        file = file_of(path, language, edited, texts, vectors)
        applied.append(timed(partial(index.apply, [file], [], [])))
        edits.append(timed(partial(index.search, question)))
    show("store one edited file", applied)
    show("hybrid, right after the edit", edits)


if __name__ == "__main__":
    asyncio.run(main())
