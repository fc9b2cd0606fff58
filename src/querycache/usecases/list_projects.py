"""List the indexed projects, and how far each lags behind its files."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

import msgspec

from querycache.cache.catalogue.project_context import Overview
from querycache.cache.loading import Answer
from querycache.cache.typed import TypedCache
from querycache.errors import ProjectNotFoundError
from querycache.ports.origins import Index, Indexes, IndexState, KnownFile, ProjectFiles


class Listed(msgspec.Struct, frozen=True):
    """A project. `stale_files` differ from what the index knows, or are gone; `indexed_at` is in
    wall seconds, 0 if no run ever completed; `languages` counts files.
    """

    name: str
    root: str
    files: int
    chunks: int
    generation: int
    indexed_at: float
    stale_files: int
    languages: dict[str, int]


class ListProjects:
    """The use case. What a project consists of is cached under its index's digest."""

    def __init__(
        self,
        indexes: Indexes,
        files_of: Callable[[str], ProjectFiles],
        overviews: Callable[[str], TypedCache[str, Overview]],
    ) -> None:
        self._indexes = indexes
        self._files_of = files_of
        self._overviews = overviews

    async def __call__(self, *, languages: bool = True) -> list[Listed]:
        """All projects, by name. Without `languages`, which are cached, the cache is not asked."""
        found: list[Listed] = []
        for name in await asyncio.to_thread(self._indexes.names):
            try:
                index = await asyncio.to_thread(self._indexes.open, name)
            except ProjectNotFoundError:  # forgotten meanwhile
                continue
            try:
                found.append(await self._listed(index, languages=languages))
            finally:
                index.close()
        return found

    async def _listed(self, index: Index, *, languages: bool) -> Listed:
        state, known = await asyncio.to_thread(_at_once, index)
        overview = (await self._overview(state, known)).value if languages else None
        return Listed(
            name=state.name,
            root=state.root,
            files=state.files,
            chunks=state.chunks,
            generation=state.change,
            indexed_at=state.indexed_at,
            stale_files=await asyncio.to_thread(_stale, self._files_of(state.root), known),
            languages=dict(overview.languages) if overview else {},
        )

    async def overview(self, index: Index) -> Answer[Overview]:
        """A project at a glance, through its cache."""
        return await self._overview(*await asyncio.to_thread(_at_once, index))

    async def _overview(
        self, state: IndexState, known: Mapping[str, KnownFile]
    ) -> Answer[Overview]:
        async def load() -> Overview:
            return await asyncio.to_thread(_overview, known)

        return await self._overviews(state.name).answer(state.digest, load)


def _at_once(index: Index) -> tuple[IndexState, Mapping[str, KnownFile]]:
    """The files of an index, and the state in which it knew just these."""
    while True:
        state, known = index.state(), index.known()
        if index.state().digest == state.digest:
            return state, known


def _overview(known: Mapping[str, KnownFile]) -> Overview:
    languages = Counter(file.language for file in known.values())
    folders = Counter(path.partition("/")[0] for path in known if "/" in path)
    return Overview(
        files=len(known),
        bytes=sum(file.stat.size for file in known.values()),
        languages=tuple(sorted(languages.items(), key=_most_first)),
        folders=tuple(sorted(folders.items(), key=_most_first)),
    )


def _most_first(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _stale(files: ProjectFiles, known: Mapping[str, KnownFile]) -> int:
    return sum(files.stat(path) != file.stat for path, file in known.items())
