"""Search a project's code: the answer is cached, fresh and explained.

A ranking is remembered under the index's digest, so it is never served for other content. Before a
ranking leaves, each of its files is looked at by `stat`: one that differs from what the index
knows is indexed at once and the question asked again; an answer without hits is looked at in the
same way, over all files. A file that can't be brought up to date in
time (another process is indexing, or it changes all the time) is left out of the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import msgspec

from querycache.cache.catalogue.search_results import Hits, SearchKey
from querycache.cache.loading import Answer
from querycache.cache.typed import TypedCache
from querycache.clock import Clock
from querycache.errors import (
    IndexBusyError,
    OutdatedKeyError,
    ProjectNotFoundError,
    UsageError,
)
from querycache.ports.origins import Hit, Index, IndexState, Mode, ProjectFiles, Question

_ATTEMPTS = 4
_MOST_HITS = 100
_LONGEST_QUERY = 10_000


class CacheInfo(msgspec.Struct, frozen=True):
    """How an answer came about. `generation` is the index's change number; `saved_ms` is what the
    load of a hit took once.
    """

    hit: bool
    tier: Literal["l1", "l2", "none"]
    kind: str
    age_s: float
    generation: int
    miss_reason: str
    saved_ms: float
    stale: bool


class Searched(msgspec.Struct, frozen=True):
    """An answer. `left_out` are files that changed and could not be indexed in time."""

    query: str
    project: str
    results: tuple[Hit, ...]
    cache: CacheInfo
    took_ms: float
    left_out: tuple[str, ...] = ()


class OpenProject(msgspec.Struct, frozen=True):
    """A project as searching needs it.

    `bring_up` indexes: the given paths, or (None) whatever changed. `is_current` says whether the
    index was built by the parser and model that run now; `lags`, whether any file looks other than
    the index knows it.
    """

    name: str
    root: str
    index: Index
    files: ProjectFiles
    results: TypedCache[SearchKey, Hits]
    bring_up: Callable[[Sequence[str] | None], Awaitable[object]]
    is_current: Callable[[IndexState], Awaitable[bool]]
    lags: Callable[[], Awaitable[bool]]


class SearchCode:
    """The use case."""

    def __init__(self, embed_query: Callable[[str], Awaitable[bytes]], clock: Clock) -> None:
        self._embed_query = embed_query
        self._clock = clock

    async def __call__(
        self,
        project: OpenProject,
        query: str,
        *,
        limit: int = 10,
        mode: Mode = "hybrid",
        language: str = "",
        path: str = "",
    ) -> Searched:
        """Raises `UsageError`, `EmbedderError`, `ProjectNotFoundError`."""
        started = self._clock.monotonic()
        question = _checked(query, mode, limit, language, path)
        left_out: list[str] = []
        for attempt in range(_ATTEMPTS):
            try:
                state, answer = await self._ranked(project, question)
            except OutdatedKeyError:
                continue
            left_out = await self._changed(project, answer.value.hits)
            if attempt == _ATTEMPTS - 1:
                break
            # Brought up since: what was compared was the files with the newer index.
            if project.index.state().digest != state.digest:
                continue
            if not await self._moved(project, answer, left_out):
                break
        else:
            state, answer = await self._ranked(project, question, patient=True)
            left_out = await self._changed(project, answer.value.hits)
        hits = answer.value.hits
        if left_out:
            hits = tuple(hit for hit in hits if hit.path not in left_out)
        return Searched(
            query=query,
            project=project.name,
            results=hits,
            cache=CacheInfo(
                hit=answer.tier != "none",
                tier=answer.tier,
                kind="search",
                age_s=answer.age_s,
                generation=state.change,
                miss_reason=answer.reason,
                saved_ms=answer.saved_s * 1e3,
                stale=answer.stale,
            ),
            took_ms=(self._clock.monotonic() - started) * 1e3,
            left_out=tuple(left_out),
        )

    async def _ranked(
        self, project: OpenProject, question: Question, *, patient: bool = False
    ) -> tuple[IndexState, Answer[Hits]]:
        """The ranking under the index's present digest. Raises `OutdatedKeyError` where the index
        moved on meanwhile; if `patient`, what it gave is served under its own digest, and not
        kept.
        """
        state = project.index.state()
        if state.root != project.root:
            raise ProjectNotFoundError(f"{project.name!r} is now the name of {state.root}")
        key = SearchKey(
            state.digest,
            question.text,
            question.mode,
            question.limit,
            question.language,
            question.path,
        )
        loose: Hits | None = None

        async def load() -> Hits:
            nonlocal loose
            if not await project.is_current(state):
                await project.bring_up(None)
                raise OutdatedKeyError("the index moved on")
            vector = None
            if question.mode != "keyword":
                vector = await self._embed_query(question.text)
            asked = msgspec.structs.replace(question, vector=vector)
            ranked = await asyncio.to_thread(project.index.search, asked)
            if ranked.digest != state.digest:
                loose = Hits(ranked.hits)
                raise OutdatedKeyError("the index moved on")
            return Hits(ranked.hits)

        try:
            return state, await project.results.answer(key, load)
        except OutdatedKeyError:
            if not patient or loose is None:
                raise
            return state, Answer(loose, found=True, reason="invalidated")

    async def _changed(self, project: OpenProject, hits: Sequence[Hit]) -> list[str]:
        """The files of these hits that differ from what the index knows of them."""
        paths = list(dict.fromkeys(hit.path for hit in hits))
        if not paths:
            return []
        known = project.index.stats(paths)
        return [path for path in paths if project.files.stat(path) != known.get(path)]

    async def _moved(
        self, project: OpenProject, answer: Answer[Hits], changed: Sequence[str]
    ) -> bool:
        """Whether the index was brought up to date, so that the question is worth asking again.

        An answer without a hit shows no file that could be looked at, so all are.
        """
        nothing = not answer.value.hits
        if not (changed or (nothing and await project.lags())):
            return False
        try:
            await project.bring_up(None if nothing else changed)
        except IndexBusyError:
            return False
        return True


def _checked(query: str, mode: Mode, limit: int, language: str, path: str) -> Question:
    text = query.strip()
    if not text:
        raise UsageError("the query is empty", remedy="ask for a word, a name or a sentence")
    if len(text) > _LONGEST_QUERY:
        raise UsageError(f"the query has {len(text)} characters; {_LONGEST_QUERY} are allowed")
    if mode not in ("hybrid", "semantic", "keyword"):
        raise UsageError(f"no mode {mode!r}", remedy="use hybrid, semantic or keyword")
    if not 1 <= limit <= _MOST_HITS:
        raise UsageError(f"between 1 and {_MOST_HITS} results can be asked for, not {limit}")
    return Question(text, None, mode, limit, language.strip().lower(), path.strip())
