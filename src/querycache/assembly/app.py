"""A running querycache: its verbs, its background work and its end.

An App belongs to a process; its verbs may be called from any event loop. Background work (telling
the registry, sweeping, paying what is owed, watching) runs in the task group of `running`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from inspect import isawaitable
from pathlib import Path
from typing import Any

import msgspec

from querycache.assembly.comparing import REQUEST
from querycache.assembly.models import Installed, Model, install_model, models
from querycache.assembly.models import Progress as ModelProgress
from querycache.assembly.wiring import Wiring
from querycache.cache.catalogue.search_results import search_results
from querycache.clock import Clock
from querycache.config import Config
from querycache.errors import (
    IndexBusyError,
    ProjectNotFoundError,
    QueryCacheError,
    TierError,
)
from querycache.keys import Scope
from querycache.observe.event_log import LOGGER
from querycache.observe.registry import Published
from querycache.ports.origins import Index, IndexState, Mode
from querycache.usecases.index_project import Indexed, Progress
from querycache.usecases.invalidate import Invalidated
from querycache.usecases.search_code import OpenProject, Searched
from querycache.usecases.show_status import Snapshot
from querycache.usecases.warm_up import Outcome, Warmed
from querycache.values import Kind

_PULSE_S = 1.0
_FRESH_FOR_S = 1.0
_EVENTS_PUBLISHED = 2000


class App(Wiring):
    """What doors call."""

    def __init__(
        self, config: Config, *, door: str = "python", clock: Clock | None = None
    ) -> None:
        """Raises `ConfigError` for settings that this build can't serve."""
        super().__init__(config, door=door, clock=clock)
        self._opened: dict[str, OpenProject] = {}
        self._checked: dict[str, float] = {}
        self._housekeeper: asyncio.Task[None] | None = None
        self._done: tuple[Snapshot, int] | None = None  # as it was last told
        self._document: dict[str, object] = {}
        self._due = dict.fromkeys(("l1", "l2"), self.clock.monotonic())

    # --- projects ------------------------------------------------------------------------------

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
            for name in list(self._opened):
                self._let_go(name)
            await self._index_served()
            searched = await ask(await self._meant(project, folder))
        if record:
            self.query_log.record(searched.project, searched.query.strip())
        return searched

    async def _search(
        self, query: str, project: OpenProject, *, limit: int, mode: Mode, language: str, path: str
    ) -> Searched:
        await self._freshen(project)
        return await self.search_code(
            project, query, limit=limit, mode=mode, language=language, path=path
        )

    async def forget(self, name: str) -> bool:
        """Drops a project, its index, its entries and its query log; whether there was one."""
        self._let_go(name)
        existed = await asyncio.to_thread(self.indexes.forget, name)
        await self.invalidate.project(name)
        await asyncio.to_thread(self.query_log.forget, name)
        return existed

    async def warm(
        self,
        project: str = "",
        queries: Sequence[str] | None = None,
        *,
        budget_s: float = 30.0,
        budget_bytes: float = float("inf"),
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> Warmed:
        """Asks what was asked most of a project, or `queries`, by the normal path."""
        name = await asyncio.to_thread(self.find_project.existing, project)
        wanted = queries
        if wanted is None:
            wanted = await asyncio.to_thread(self.query_log.popular, name)

        async def ask(query: str) -> Outcome:
            return (await self.search(query, name, record=False)).cache.tier

        return await self.warm_up(
            wanted, ask, budget_s=budget_s, budget_bytes=budget_bytes, progress=progress
        )

    async def _meant(self, project: str, folder: str) -> OpenProject:
        if project in self._opened:
            return self._opened[project]
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
        if name not in self._opened:
            index = await asyncio.to_thread(self.indexes.open, name)
            if name in self._opened:  # by another task, meanwhile
                index.close()
            else:
                self._opened[name] = self._project(name, index.state().root, index)
        return self._opened[name]

    def _let_go(self, name: str) -> None:
        project = self._opened.pop(name, None)
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

    # --- status --------------------------------------------------------------------------------

    async def processes(self) -> list[tuple[Published, Snapshot]]:
        """The living processes that told their counts; this one only if it publishes."""
        found: list[tuple[Published, Snapshot]] = []
        for told in await asyncio.to_thread(self.registry.living):
            try:
                snapshot = msgspec.convert(told.document.get("snapshot"), Snapshot)
            except msgspec.ValidationError:  # of another version
                continue
            since = max(0.0, self.clock.wall() - told.published_at)
            uptime = round(snapshot.uptime_s + since, 1)
            found.append((told, msgspec.structs.replace(snapshot, uptime_s=uptime)))
        return found

    async def clear(self) -> Invalidated:
        """Makes every entry of every process unreachable, and reclaims what it held."""
        cut = await self.invalidate.everything()
        self.l1.clear()
        return cut

    async def cleanup_expired(self) -> int:
        """Drops what has expired from both tiers; how many entries."""
        swept = self.l1.sweep(self.clock.monotonic())
        try:
            return swept + await self.core.l2.sweep()
        except TierError:
            return swept

    # --- models --------------------------------------------------------------------------------

    def models(self) -> list[Model]:
        """The embedding models that the settings can name."""
        return models(self.config, self.models_folder)

    async def install_model(self, name: str, progress: ModelProgress) -> Installed:
        """Downloads a model and makes it usable. Raises `EmbedderError`, `UsageError`."""
        return await asyncio.to_thread(install_model, name, self.models_folder, progress)

    # --- background ----------------------------------------------------------------------------

    @asynccontextmanager
    async def running(
        self, roots: Sequence[str] = (), *, watch: bool = True
    ) -> AsyncGenerator[App]:
        """Keeps house for the block: sweeps, tells the registry, indexes and watches `roots`. The
        App stays open after it.
        """
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._pulse())]
            tasks += [group.create_task(self.follow(root, watch=watch)) for root in roots]
            try:
                yield self
            finally:
                for task in tasks:
                    task.cancel()

    async def follow(self, root: str, *, watch: bool = True) -> None:
        """Indexes a root; with `watch`, keeps its index up to date until cancelled."""
        name = await asyncio.to_thread(self.find_project.name_for, root)
        real = str(await asyncio.to_thread(Path(root).resolve))
        if not watch:
            await self.index_project(name, real)
            return
        await self.watch_files(
            name, self.files_of(real), lambda paths: self.index_project(name, real, paths=paths)
        )

    async def keep_house(self) -> None:
        """One turn of the background work."""
        await self.core.settle()
        await asyncio.to_thread(self._publish)
        now = self.clock.monotonic()
        await self.comparing.turn(now)
        settings = self.config.l1
        if settings.expired_cleanup_enabled:
            if now - self._due["l1"] >= settings.cleanup_interval_s:
                self._due["l1"] = now
                await asyncio.to_thread(self.l1.sweep, now)
            if now - self._due["l2"] >= self.config.l2.sweep_interval_s:
                self._due["l2"] = now
                await self.core.l2.sweep()

    def _publish(self) -> None:
        snapshot = self.status.snapshot()
        answer, told = self.comparing.answer, sum(self.ring.counts.values())
        done = msgspec.structs.replace(snapshot, uptime_s=0.0), told
        if done != self._done:  # an idle process writes nothing
            events = self.ring.rows()[-_EVENTS_PUBLISHED:]
            self._done = done
            self._document = {"snapshot": snapshot, "events": events, REQUEST: answer}
        self.registry.publish(self._document)

    def keep_house_here(self) -> None:
        """Keeps house in the running loop, as long as it runs, unless another loop does."""
        loop = asyncio.get_running_loop()
        task = self._housekeeper
        if task is None or task.done() or task.get_loop().is_closed():
            self._housekeeper = loop.create_task(self._pulse(), name="querycache housekeeping")

    async def _pulse(self) -> None:
        while True:
            try:
                await self.keep_house()
            except (OSError, QueryCacheError) as error:  # the next turn may do better
                LOGGER.warning("housekeeping: %s", ascii(str(error)))
            await self.clock.sleep(_PULSE_S)

    async def _end_housekeeping(self) -> None:
        task, self._housekeeper = self._housekeeper, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        elif task is not None:
            with suppress(RuntimeError):  # its loop was closed
                task.get_loop().call_soon_threadsafe(task.cancel)

    async def close(self) -> None:
        """Ends what runs and lets go of what is open. Idempotent."""
        made: dict[str, Any] = self.__dict__
        await self._end_housekeeping()
        if "core" in made:
            await self.core.close()
        for name in list(self._opened):
            self._let_go(name)
        l2 = self.core.l2 if "core" in made else None
        parts = [made.get(name) for name in ("parser", "embedder", "qdrant")]
        parts += [l2, *(made.get(name) for name in ("journal", "redis_admin", "registry"))]
        for part in parts:
            ended = part and part.close()
            if isawaitable(ended):
                await ended
