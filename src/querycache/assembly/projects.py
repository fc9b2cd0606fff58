"""The projects of one process: indexed, searched, watched, warmed, forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from querycache.assembly.operations import Operations
from querycache.cache.catalogue.search_results import search_results
from querycache.clock import Clock
from querycache.config import Config
from querycache.errors import IndexBusyError, ProjectNotFoundError
from querycache.keys import Scope
from querycache.ports.origins import Index, IndexState, Mode, Question
from querycache.usecases.index_project import Indexed, Progress
from querycache.usecases.search_code import OpenProject, Searched
from querycache.usecases.warm_up import Tell, Tier, Wanted, Warmed
from querycache.values import Kind

_FRESH_FOR_S = 1.0


class Projects(Operations):
    """What is done with projects."""

    def __init__(
        self, config: Config, *, door: str = "python", clock: Clock | None = None
    ) -> None:
        """Raises `ConfigError` for settings that this build can't serve."""
        super().__init__(config, door=door, clock=clock)
        self.opened: dict[str, OpenProject] = {}
        self._checked: dict[str, float] = {}

    async def index(
        self,
        root: str,
        name: str = "",
        *,
        force: bool = False,
        progress: Callable[[Progress], None] = lambda _: None,
        patience_s: float | None = None,
    ) -> Indexed:
        """Indexes what changed under `root`. Raises `UsageError`, `EmbedderError`,
        `IndexBusyError`.
        """
        project = await asyncio.to_thread(self.find_project.name_for, root, name)
        real = str(await asyncio.to_thread(Path(root).resolve))
        with self.tracing.span("querycache.index", {"querycache.project": project}):
            return await self.index_project(
                project, real, force=force, progress=progress, patience_s=patience_s
            )

    async def search(  # noqa: PLR0913 -- the filters of a search
        self,
        query: str,
        project: str = "",
        *,
        folder: str = "",
        limit: int = 10,
        mode: Mode = "hybrid",
        language: str = "",
        path: str = "",
        record: bool = True,
    ) -> Searched:
        """Searches a project (see `FindProject.existing` for which), brought up to date first
        where no living process watches it. Raises `ProjectNotFoundError`, `UsageError`,
        `EmbedderError`.
        """
        ask = partial(self._search, query, limit=limit, mode=mode, language=language, path=path)
        try:
            opened = await self._meant(project, folder)
            searched = await ask(opened)
        except ProjectNotFoundError:  # forgotten, moved or wiped, and perhaps indexed anew
            for name in list(self.opened):
                self.let_go(name)
            await self._index_served()
            searched = await ask(await self._meant(project, folder))
        if record:
            meant = language.strip().lower(), path.strip()
            asked = Question(query.strip(), None, mode, limit, *meant)
            self.query_log.record(searched.project, asked)
        return searched

    async def _search(
        self, query: str, project: OpenProject, *, limit: int, mode: Mode, language: str, path: str
    ) -> Searched:
        with self.tracing.span("querycache.search", {"querycache.project": project.name}):
            await self._freshen(project)
            return await self.search_code(
                project, query, limit=limit, mode=mode, language=language, path=path
            )

    async def forget(self, name: str) -> bool:
        """Drops a project, its index, its query log and its entries; whether there was one. Raises
        `TierError` where what its entries are sealed with could not be dropped: call it again.
        """
        self.let_go(name)
        existed = await asyncio.to_thread(self.indexes.forget, name)
        await asyncio.to_thread(self.query_log.forget, name)
        await self.invalidate.project(name)
        salts = 0 if self.seal is None else await self.seal.drop(Scope(name).segment)
        return existed or salts > 0

    async def warm(
        self,
        project: str = "",
        queries: Sequence[str | Question] | None = None,
        *,
        budget_s: float = 30.0,
        budget_bytes: float = float("inf"),
        lasting: bool = False,
        progress: Tell = lambda _done, _total, _what: None,
    ) -> Warmed:
        """Brings a project's index up to date, then loads its overview and the answers to what was
        asked most, or to `queries`, by the normal path. `lasting`: this process is about to end,
        so what the shared tier has is warm. Raises `ProjectNotFoundError`.
        """
        name = await asyncio.to_thread(self.find_project.existing, project)
        opened = await self._meant(name, "")
        asked = queries
        if asked is None:
            asked = await asyncio.to_thread(self.query_log.popular, name)
        renews = False

        async def catch_up(tell: Tell) -> None:
            nonlocal renews
            if not await self._is_current(opened.index.state()) or await opened.lags():
                await self.index_project(
                    name,
                    opened.root,
                    progress=lambda now: tell(now.done, now.total, now.path),
                    patience_s=budget_s / 2,
                )
            renews = True

        async def overview() -> Tier:
            return (await self.list_projects.overview(opened.index)).tier

        async def answer(question: Question) -> Tier:
            found = await self.search(
                question.text,
                name,
                limit=question.limit,
                mode=question.mode,
                language=question.language,
                path=question.path,
                record=False,
            )
            if found.cache.hit and renews and question.mode != "keyword":
                await self.embed.query(question.text)  # the next edit asks for it
            return found.cache.tier

        wanted = [Wanted(f"the overview of {name}", overview)]
        questions = [Question(one, None) if isinstance(one, str) else one for one in asked]
        wanted += [Wanted(one.text, partial(answer, one)) for one in dict.fromkeys(questions)]
        return await self.warm_up(
            wanted,
            catch_up,
            budget_s=budget_s,
            budget_bytes=budget_bytes,
            lasting=lasting,
            progress=progress,
        )

    async def _meant(self, project: str, folder: str) -> OpenProject:
        if project in self.opened:
            return self.opened[project]
        return await self._open(
            await asyncio.to_thread(self.find_project.existing, project, folder)
        )

    async def _index_served(self) -> None:
        """Indexes the roots that this process serves and whose indexes are gone."""
        if "watch_files" in self.__dict__:
            there = await asyncio.to_thread(self.indexes.names)
            for served in list(self.watch_files.watched.values()):
                if served.project not in there:
                    await self.index_project(served.project, served.root)

    async def _open(self, name: str) -> OpenProject:
        """A project's handle, kept until it is forgotten or moved."""
        if name not in self.opened:
            index = await asyncio.to_thread(self.indexes.open, name)
            if name in self.opened:  # by another task, meanwhile
                index.close()
            else:
                self.opened[name] = self._project(name, index.state().root, index)
        return self.opened[name]

    def let_go(self, name: str) -> None:
        """Closes a project's handle, if there is one."""
        project = self.opened.pop(name, None)
        if project is not None:
            project.index.close()

    def _project(self, name: str, root: str, index: Index) -> OpenProject:
        policy, files = self.policies[Kind.SEARCH], self.files_of(root)
        return OpenProject(
            name=name,
            root=root,
            index=index,
            files=files,
            results=search_results(self.core, self.namer, policy, Scope(name)),
            bring_up=lambda paths: self.bring_up(name, root, paths),
            is_current=self._is_current,
            lags=lambda: self.index_project.lags(index, files),
        )

    async def _is_current(self, state: IndexState) -> bool:
        return state.versions == self.index_project.versions(await self.model())

    async def bring_up(self, name: str, root: str, paths: Sequence[str] | None) -> Indexed:
        """Indexes the given paths, or (None) whatever changed."""
        return await self.index_project(name, root, paths=paths, patience_s=2.0)

    async def _freshen(self, project: OpenProject) -> None:
        """Looks at all files of a project that nobody watches, at most once in a while."""
        now = self.clock.monotonic()
        if now - self._checked.get(project.name, -_FRESH_FOR_S) < _FRESH_FOR_S:
            return
        lock = await asyncio.to_thread(self.indexes.try_lock, project.name, "watch")
        if lock is not None:
            lock.release()
            try:
                if await project.lags():
                    await project.bring_up(None)
            except IndexBusyError:
                return  # what is being indexed can be searched as far as it is
        self._checked[project.name] = self.clock.monotonic()

    async def follow(self, root: str, *, watch: bool = True) -> None:
        """Indexes a root; with `watch`, keeps its index up to date until cancelled."""
        name = await asyncio.to_thread(self.find_project.name_for, root)
        real = str(await asyncio.to_thread(Path(root).resolve))
        if not watch:
            await self.index_project(name, real)
            return
        spelled = str(await asyncio.to_thread(Path(root).absolute))
        await self.watching.follow(name, real, spelled)
