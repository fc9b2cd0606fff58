"""The demonstration: a project is indexed in a temporary place and asked the same questions cold,
from memory and from a new process; what is claimed is checked.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import msgspec

from querycache.assembly import App
from querycache.config import load_config
from querycache.doors.cli import screen
from querycache.doors.cli.progress import counting, indexing
from querycache.errors import QueryCacheError, UsageError
from querycache.usecases.index_project import Indexed

QUESTIONS = (
    "where is the configuration read",
    "how are errors handled and reported",
    "parse the command line arguments",
    "write data to a file on disk",
    "tests for invalid input",
)
_ATTEMPTS = 3
_NAME = "demo"

Tier = Literal["l1", "l2", "none"]
Run = Literal["first", "again", "new process"]
_EXPECTED: Mapping[Run, Tier] = {"first": "none", "again": "l1", "new process": "l2"}
_WITH = {  # a demonstration needs both tiers, no server and no network
    "CACHE_ENABLED": "true",
    "CACHE_LEVEL": "BOTH",
    "CACHE_L2_BACKEND": "sqlite",
    "QUERYCACHE_EMBEDDER": "local",
    **{f"{kind}_CACHE_ENABLED": "true" for kind in ("EMBEDDING", "SEARCH", "PROJECT", "FILE")},
}


class Place(msgspec.Struct, frozen=True):
    """Where a result is. Equal rankings have equal places and scores."""

    path: str
    start_line: int
    end_line: int
    symbol: str
    score: float


class Cache(msgspec.Struct, frozen=True):
    """How an answer came about."""

    tier: Tier
    generation: int


class Answer(msgspec.Struct, frozen=True):
    """A question answered. `embedded`: texts that the model was given for it."""

    results: list[Place]
    cache: Cache
    took_ms: float
    embedded: int


class Asked(msgspec.Struct, frozen=True):
    """A question and its answer in one run. `embedded` and `embeddings_saved` count texts that
    the model was given, and texts that it was not given because the cache had the answer.
    """

    query: str
    run: Run
    tier: Tier
    took_ms: float
    embedded: int
    embeddings_saved: int
    results: list[Place]


class Shown(msgspec.Struct, frozen=True):
    """The whole demonstration: `asked` holds each question three times, in the order of `Run`."""

    project: str
    indexed: Indexed
    asked: list[Asked]
    indexed_again: Indexed
    took_ms: float


class _ProjectMovedError(Exception):
    """Somebody works on the project meanwhile."""


def show(project: Path) -> Shown:
    """Runs it. Raises `QueryCacheError` where the cache did not do what is claimed."""
    if not project.is_dir():
        raise UsageError(f"{str(project)!r} is not a folder", remedy="name a folder with code")
    root = str(project.resolve())
    for _ in range(_ATTEMPTS):
        with TemporaryDirectory(prefix="querycache-demo-") as home:
            try:
                return asyncio.run(_demonstrated(root, home))
            except _ProjectMovedError:
                screen.say("the project changed meanwhile; starting over")
    raise QueryCacheError(
        f"{root} changes all the time, so that no two runs can be compared",
        remedy="show a project that nobody works on just now",
    )


async def _demonstrated(root: str, home: str) -> Shown:
    # set for the processes that are started, which must find the same store
    environment = {**os.environ, **_WITH, "QUERYCACHE_HOME": home}  # noqa: TID251 -- handed on
    app = App(load_config(environment).config, door="demo")
    started = app.clock.monotonic()
    try:
        with indexing(app.clock) as progress:
            indexed = await app.index(root, _NAME, progress=progress)
        if not indexed.chunks:
            raise UsageError(f"nothing in {root} can be indexed", remedy="name a folder with code")
        first = [await _ask_here(app, query) for query in QUESTIONS]
        again = [await _ask_here(app, query) for query in QUESTIONS]
        elsewhere: list[Answer] = []
        with counting("asking from new processes", app.clock) as count:
            for query in QUESTIONS:
                count(len(elsewhere), len(QUESTIONS))
                elsewhere.append(await _ask_a_new_process(query, environment))
        indexed_again = await app.index(root, _NAME)
        took_ms = (app.clock.monotonic() - started) * 1e3
    finally:
        await app.close()
    answers = [*first, *again, *elsewhere]
    if {answer.cache.generation for answer in answers} != {indexed_again.generation}:
        raise _ProjectMovedError
    _check(not indexed_again.embedded, f"indexing again embedded {indexed_again.embedded} texts")
    asked = [
        _compared(query, run, answer, cold)
        for query, cold, *others in zip(QUESTIONS, first, again, elsewhere, strict=True)
        for run, answer in zip(_EXPECTED, (cold, *others), strict=True)
    ]
    return Shown(root, indexed, asked, indexed_again, took_ms)


async def _ask_here(app: App, query: str) -> Answer:
    before = _embedded(app)
    found = await app.search(query, _NAME, record=False)
    plain = msgspec.to_builtins(found) | {"embedded": _embedded(app) - before}
    return msgspec.convert(plain, Answer)


def _embedded(app: App) -> int:
    return app.status.snapshot().kinds["embedding"].loads


async def _ask_a_new_process(query: str, environment: Mapping[str, str]) -> Answer:
    command = (sys.executable, "-m", "querycache", "search", query, "--project", _NAME, "--json")
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    told, trouble = await process.communicate()
    _check(process.returncode == 0, f"a new process failed: {trouble.decode(errors='replace')}")
    return msgspec.json.decode(told, type=Answer)


def _compared(query: str, run: Run, answer: Answer, cold: Answer) -> Asked:
    """The row of one run, checked against what is claimed and the first run's answer."""
    expected, tier = _EXPECTED[run], answer.cache.tier
    _check(tier == expected, f"{query!r} ({run}) was answered by {tier}, not by {expected}")
    same = answer.results == cold.results
    _check(same, f"{query!r} ({run}) was answered with another ranking than at first")
    saved = cold.embedded - answer.embedded
    return Asked(query, run, tier, answer.took_ms, answer.embedded, saved, answer.results)


def _check(holds: bool, otherwise: str) -> None:  # noqa: FBT001 -- reads like an assertion
    if not holds:
        raise QueryCacheError(
            f"the demonstration failed: {otherwise}", remedy="report it, with your platform"
        )
