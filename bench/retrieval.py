"""How well the code search finds: labels by outsiders, from the history of a repository.

Two protocols. `docstrings`: the first paragraph of a function's docstring asks, the function is
the answer; the corpus is every function of the package, without its docstring. `commits`: the
subject of a commit asks, the package's files that it changed are the answer; the corpus is the
package at the commit's parent, brought up to date from one commit to the next.

    python bench/retrieval.py flask=GITDIR:2ac89889:src/flask … --embedder local

Prints MRR@10 and recall@10 of each arm and of both. Reads the objects of the git directory; no
work tree is needed.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import random
import re
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from querycache.origins.embedder_local import LocalEmbedder
from querycache.origins.index import SqliteIndex
from querycache.origins.indexes import SqliteIndexes
from querycache.origins.parser import TreeSitterParser
from querycache.ports.origins import (
    Chunk,
    Embedder,
    FileStat,
    Hit,
    IndexedChunk,
    IndexedFile,
    Mode,
    Question,
)
from querycache.usecases.chunk_text import embedded_text

MODES: tuple[Mode, ...] = ("semantic", "keyword", "hybrid")
WEIGHTS = {"local": 0.4, "minilm": 0.7}
AT = 10
MAX_QUESTIONS = 600
MIN_WORDS = 5
MIN_BODY_LINES = 3
MAX_FILES = 3
_HOUSEKEEPING = re.compile(
    r"\b(bump|release|version|changelog|typos?|whitespace|format(ting)?|lint|flake8|ruff|black"
    r"|isort|mypy|pre-commit|pyupgrade|copyright|translations?|revert|merge|deprecated code"
    r"|type (hints?|annotations?)|typing)\b",
    re.IGNORECASE,
)
_NOISE = re.compile(r"\(?#\d+\)?|:[a-z_]+:|[\w/.-]+\.(py|rst|md|txt|toml|cfg|yml)\b|[^\x00-\xff]")


class Repository(NamedTuple):
    name: str
    git: str
    commit: str
    package: str

    def ask(self, *arguments: str, given: bytes = b"") -> bytes:
        command = ["git", f"--git-dir={self.git}", *arguments]
        return subprocess.run(command, input=given, capture_output=True, check=True).stdout  # noqa: S603

    def tree(self, commit: str) -> dict[str, str]:
        """Path -> blob of the package's Python files."""
        listed = self.ask("ls-tree", "-r", "-z", commit, "--", f"{self.package}/").decode()
        rows = [row.split("\t", 1) for row in listed.split("\0") if row]
        return {path: meta.split()[2] for meta, path in rows if path.endswith(".py")}

    def blobs(self, names: Sequence[str]) -> dict[str, bytes]:
        out = self.ask("cat-file", "--batch", given="\n".join(names).encode())
        found: dict[str, bytes] = {}
        at = 0
        for name in names:
            header, _, _ = out[at:].partition(b"\n")
            size = int(header.split()[2])
            at += len(header) + 1
            found[name] = out[at : at + size]
            at += size + 1
        return found


class Source(NamedTuple):
    path: str
    blob: str
    chunks: tuple[Chunk, ...]


class Asked(NamedTuple):
    text: str
    gold: frozenset[str]


class Step(NamedTuple):
    changed: list[Source]
    removed: list[str]
    asked: list[Asked]


class Figures(NamedTuple):
    mrr: float
    recall: float
    questions: int


def functions(path: str, blob: str, data: bytes) -> tuple[Source, list[Asked]]:
    """Every function of a file as a chunk without its docstring, and the docstrings that ask."""
    text = data.decode()
    lines = text.splitlines()
    chunks: list[Chunk] = []
    asked: list[Asked] = []
    for node, symbol in _definitions(ast.parse(text), ""):
        first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
        last = node.end_lineno or first
        kept = lines[first - 1 : last]
        documented = ast.get_docstring(node)
        if documented is not None:
            holder = node.body[0]
            start, end = holder.lineno - first, (holder.end_lineno or holder.lineno) - first
            kept = kept[:start] + kept[end + 1 :]
            paragraph = " ".join(documented.split("\n\n")[0].split())
            body = len([line for line in lines[end + first : last] if line.strip()])
            told = len(paragraph.split()) >= MIN_WORDS and body >= MIN_BODY_LINES
            if told and not node.name.startswith("__"):
                asked.append(Asked(paragraph, frozenset([f"{path}:{first}"])))
        place = len(chunks)
        chunks.append(Chunk(place, place + 1, first, last, symbol, "\n".join(kept)))
    return Source(path, blob, tuple(chunks)), asked


_Function = ast.FunctionDef | ast.AsyncFunctionDef


def _definitions(node: ast.AST, outer: str) -> Iterator[tuple[_Function, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Function | ast.ClassDef):
            symbol = f"{outer}.{child.name}" if outer else child.name
            if not isinstance(child, ast.ClassDef):
                yield child, symbol
            yield from _definitions(child, symbol)
        else:
            yield from _definitions(child, outer)


async def docstrings(repository: Repository) -> AsyncIterator[Step]:
    tree = repository.tree(repository.commit)
    data = repository.blobs(list(tree.values()))
    both = [functions(path, blob, data[blob]) for path, blob in tree.items()]
    asked = [each for _, some in both for each in some]
    random.Random(0).shuffle(asked)  # noqa: S311 -- a sample
    yield Step([source for source, _ in both], [], asked[:MAX_QUESTIONS])


async def commits(repository: Repository, count: int) -> AsyncIterator[Step]:
    parser = TreeSitterParser()
    known: dict[str, str] = {}
    parsed: dict[tuple[str, str], tuple[Chunk, ...]] = {}
    try:
        for parent, subject, changed_paths in reversed(subjects(repository, count)):
            tree = repository.tree(parent)
            gold = frozenset(changed_paths & tree.keys())
            if not gold:
                continue
            wanted = [path for path, blob in tree.items() if known.get(path) != blob]
            unread = [tree[path] for path in wanted if (path, tree[path]) not in parsed]
            data = repository.blobs(unread) if unread else {}
            changed: list[Source] = []
            for path in wanted:
                at = (path, tree[path])
                if at not in parsed:
                    parsed[at] = (await parser.parse(path, data[at[1]])).chunks
                changed.append(Source(*at, parsed[at]))
            yield Step(
                changed, [path for path in known if path not in tree], [Asked(subject, gold)]
            )
            known = tree
    finally:
        await parser.close()


def subjects(repository: Repository, count: int) -> list[tuple[str, str, frozenset[str]]]:
    """(parent, subject, changed Python files of the package), newest first."""
    log = repository.ask(
        "log", "--no-merges", "--name-only", "--format=%x01%P%x02%s", repository.commit, "--",
        repository.package,
    )  # fmt: skip
    found: list[tuple[str, str, frozenset[str]]] = []
    for entry in log.decode("utf-8", "replace").split("\x01")[1:]:
        head, _, names = entry.partition("\n")
        parent, _, subject = head.partition("\x02")
        paths = frozenset(name for name in names.split("\n") if name.endswith(".py"))
        text = " ".join(_NOISE.sub(" ", subject).split())
        few = 1 <= len(paths) <= MAX_FILES
        telling = len(text.split()) >= MIN_WORDS and not _HOUSEKEEPING.search(text)
        if parent and few and telling:
            found.append((parent, text, paths))
        if len(found) == count:
            break
    return found


class Vectors:
    """Embeds a text once."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self._known: dict[str, bytes] = {}

    async def of(self, texts: Sequence[str]) -> list[bytes]:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            rows = await self.embedder.embed(new, "document")
            self._known |= {text: row.tobytes() for text, row in zip(new, rows, strict=True)}
        return [self._known[text] for text in texts]

    async def question(self, text: str) -> bytes:
        return (await self.embedder.embed([text], "query"))[0].tobytes()


async def indexed(source: Source, vectors: Vectors) -> IndexedFile:
    texts = [embedded_text(source.path, chunk, "python") for chunk in source.chunks]
    rows = zip(source.chunks, texts, await vectors.of(texts), strict=True)
    chunks = tuple(IndexedChunk(chunk, _hash(text), vector) for chunk, text, vector in rows)
    return IndexedFile(FileStat(source.path, 0, 0, 0), source.blob, "python", chunks)


def _hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


def ranked(hits: Sequence[Hit], gold: frozenset[str]) -> list[str]:
    """What the hits stand for, functions or files as the answer has them, best first."""
    by_function = any(":" in each for each in gold)
    keys = [f"{hit.path}:{hit.start_line}" if by_function else hit.path for hit in hits]
    return list(dict.fromkeys(keys))


async def measure(
    index: SqliteIndex, steps: AsyncIterator[Step], vectors: Vectors
) -> Mapping[Mode, Figures]:
    scores: dict[Mode, list[tuple[float, float]]] = {mode: [] for mode in MODES}
    async for step in steps:
        changed = [await indexed(source, vectors) for source in step.changed]
        index.apply(changed, step.removed, [])
        for text, gold in step.asked:
            vector = await vectors.question(text)
            for mode in MODES:
                limit = AT if any(":" in each for each in gold) else 5 * AT
                hits = index.search(Question(text, vector, mode, limit)).hits
                keys = ranked(hits, gold)[:AT]
                first = next((place for place, key in enumerate(keys, 1) if key in gold), 0)
                recall = len(gold.intersection(keys)) / len(gold)
                scores[mode].append((1 / first if first else 0.0, recall))
    return {
        mode: Figures(fmean(s[0] for s in some), fmean(s[1] for s in some), len(some))
        for mode, some in scores.items()
    }


def _embedder(name: str, folder: Path) -> Embedder:
    if name == "local":
        return LocalEmbedder()
    from querycache.origins.embedder_minilm import MiniLMEmbedder  # noqa: PLC0415 -- an extra

    return MiniLMEmbedder(folder)


def _repository(text: str) -> Repository:
    name, _, rest = text.partition("=")
    git, commit, package = rest.rsplit(":", 2)
    return Repository(name, git, commit, package.rstrip("/"))


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "repositories", nargs="+", type=_repository, metavar="NAME=GIT:COMMIT:PACKAGE"
    )
    options.add_argument("--embedder", choices=list(WEIGHTS), default="local")
    options.add_argument("--model", type=Path, default=Path(), help="the folder of minilm's files")
    options.add_argument("--semantic-weight", type=float)
    options.add_argument("--commits", type=int, default=150)
    options.add_argument("--protocol", choices=["docstrings", "commits", "both"], default="both")
    given = options.parse_args()
    embedder = _embedder(given.embedder, given.model)
    await embedder.start()
    vectors = Vectors(embedder)
    weight = given.semantic_weight or WEIGHTS[given.embedder]
    protocols = ["docstrings", "commits"] if given.protocol == "both" else [given.protocol]
    for protocol in protocols:
        print(f"{protocol} · {given.embedder} · semantic weight {weight} · MRR@10 / recall@10")
        rows: list[Mapping[Mode, Figures]] = []
        for repository in given.repositories:
            with tempfile.TemporaryDirectory() as folder:
                indexes = SqliteIndexes(folder, semantic_weight=weight)
                index = indexes.open(
                    "bench", root=folder, versions="bench", dimensions=embedder.dimensions
                )
                steps = (
                    docstrings(repository)
                    if protocol == "docstrings"
                    else commits(repository, given.commits)
                )
                rows.append(await measure(index, steps, vectors))
                index.close()
            _print(f"{repository.name} ({rows[-1]['hybrid'].questions})", rows[-1])
        means: dict[Mode, Figures] = {
            mode: Figures(fmean(r[mode].mrr for r in rows), fmean(r[mode].recall for r in rows), 0)
            for mode in MODES
        }
        _print("mean", means)
    await embedder.close()


def _print(title: str, figures: Mapping[Mode, Figures]) -> None:
    cells = [f"{mode} {figures[mode].mrr:.3f} / {figures[mode].recall:.3f}" for mode in MODES]
    print(f"{title:16}", *cells, sep="  ", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
