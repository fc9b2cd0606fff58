"""Watching: what happens when files change, in projects and under other roots."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from querycache.assembly.cases import UseCases
from querycache.errors import ProjectNotFoundError, QueryCacheError
from querycache.ports.observer import Observer
from querycache.ports.origins import KnownFile
from querycache.usecases.find_project import real_folder
from querycache.usecases.monitor_files import Looked, MonitorFiles, Place
from querycache.usecases.watch_files import Watched, WatchFiles

_PATIENCE_S = 2.0


class Watching:
    """The watches of one process."""

    def __init__(self, cases: UseCases, observer: Observer) -> None:
        self._cases = cases
        self._observer = observer
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @cached_property
    def _monitor(self) -> MonitorFiles:
        async def cut(paths: Sequence[str]) -> int:
            return (await self._cases.invalidate.files(paths, results=False)).entries

        return MonitorFiles(cut, self._observer, self._cases.clock)

    async def follow(self, name: str, root: str, spelled: str) -> None:
        """Keeps a project's index up to date, and cuts what was derived from files that change,
        until cancelled. `spelled`: the absolute root as callers call it.
        """
        cases, monitor = self._cases, self._monitor
        files = cases.files_of(root)
        place = Place(files, [spelled], cases.clock.wall())
        # Not what the index knows: a search that saw a change first has brought that up.
        known: dict[str, KnownFile] = {}
        untold: list[Looked] = []
        begun = learned = False

        async def look(paths: Sequence[str] | None) -> None:
            nonlocal begun
            if not begun:
                place.began = cases.clock.wall()
                indexed = await asyncio.to_thread(self._known, name, root)
                known.update({**await monitor.begin(place), **indexed})
                begun, paths = True, None
            looked = await monitor.look(place, known, paths)
            _learn(known, looked.known)
            untold.append(looked)

        async def settle(paths: Sequence[str] | None) -> Sequence[float]:
            nonlocal learned
            looks, lags = _taken(untold), list[float]()
            try:
                await cases.index_project(name, root, paths=paths)
            finally:
                for looked in looks:
                    lags += monitor.tell(place, looked, name)
            if not learned:  # what was new to the index, it has read by now
                indexed = await asyncio.to_thread(self._known, name, root)
                _learn(known, {path: one for path, one in indexed.items() if _open(known, one)})
                learned = True
            return lags

        await cases.watch_files(name, files, look, settle)

    async def start(self, roots: Sequence[str]) -> None:
        """Watches roots in the running loop, which need be no projects, until `stop`. Returns when
        their changes are being reported. Raises `UsageError` for what is no folder.
        """
        loop = asyncio.get_running_loop()
        folders = [await asyncio.to_thread(_folder, root) for root in roots]
        for real, spelled in folders:
            task = self._tasks.get(real)
            if task is None or task.done() or task.get_loop().is_closed():
                self._cases.watch_files.monitored[real] = Watched("", real)
                self._tasks[real] = loop.create_task(self._watch(real, spelled))
        states = self._cases.watch_files.monitored
        begun = [(states[real], self._tasks[real]) for real, _ in folders]
        for state, task in begun:  # which `stop` may end meanwhile
            stands = loop.create_task(state.stands.wait())
            await asyncio.wait((stands, task), return_when=asyncio.FIRST_COMPLETED)
            stands.cancel()

    async def stop(self) -> None:
        """Watches what `start` was given no longer. Idempotent."""
        tasks, self._tasks = self._tasks, {}
        here: list[asyncio.Task[None]] = []
        for real, task in tasks.items():
            self._cases.watch_files.monitored.pop(real, None)
            if task.get_loop() is asyncio.get_running_loop():
                task.cancel()
                here.append(task)
            else:
                with suppress(RuntimeError):  # its loop was closed
                    task.get_loop().call_soon_threadsafe(task.cancel)
        await asyncio.gather(*here, return_exceptions=True)

    def end(self) -> None:
        """Tells no longer of the projects that were followed."""
        watch = self._cases.__dict__.get("watch_files")
        if isinstance(watch, WatchFiles):
            watch.watched.clear()

    def told(self) -> list[dict[str, object]]:
        """How watching goes, a row for each root: see `Watched.told`."""
        return [state.told() for state in self._states()]

    def troubles(self) -> list[str]:
        """A line for each root whose changes may be missed."""
        return [
            f"changes under {state.root} may be missed: {state.error or 'nobody watches it'}"
            for state in self._states()
            if state.error or not state.alive
        ]

    def _states(self) -> list[Watched]:
        watch = self._cases.__dict__.get("watch_files")
        if not isinstance(watch, WatchFiles):  # nothing was ever watched
            return []
        return [*watch.watched.values(), *watch.monitored.values()]

    async def _watch(self, root: str, spelled: str) -> None:
        cases, monitor = self._cases, self._monitor
        files = await asyncio.to_thread(cases.files_of, root)
        place = Place(files, [spelled], cases.clock.wall())
        known: dict[str, KnownFile] = {}
        untold: list[Looked] = []
        begun = asyncio.Event()

        async def look(paths: Sequence[str] | None) -> None:
            if not begun.is_set():
                known.update(await monitor.begin(place))
                begun.set()
                return
            looked = await monitor.look(place, known, paths)
            _learn(known, looked.known)
            untold.append(looked)

        async def settle(_: Sequence[str] | None) -> Sequence[float]:
            looks, lags = _taken(untold), list[float]()
            changed = [f"{root}/{one.path}" for looked in looks for one in looked.changes]
            projects = await self._bring_up(changed)
            for looked in looks:
                lags += monitor.tell(place, looked, projects[0] if projects else "")
            return lags

        async def learn() -> None:
            await begun.wait()
            await monitor.learn(place, known)

        async with asyncio.TaskGroup() as group:
            learning = group.create_task(learn())
            try:
                await cases.watch_files.monitor(files, look, settle)
            finally:
                learning.cancel()

    async def _bring_up(self, paths: Sequence[str]) -> list[str]:
        """Brings up the indexes of projects that hold these files, where no process watches them;
        the names of those projects.
        """
        if not paths:
            return []
        names: list[str] = []
        try:
            states = await asyncio.to_thread(self._cases.find_project.states)
        except QueryCacheError:  # there is no place for indexes
            return []
        for state in states:
            inside = f"{state.root}/"
            of_it = [path.removeprefix(inside) for path in paths if path.startswith(inside)]
            if of_it:
                names.append(state.name)
                with suppress(QueryCacheError):  # a search that needs it does it, or fails aloud
                    await self._bring_up_one(state.name, state.root, of_it)
        return names

    async def _bring_up_one(self, name: str, root: str, paths: Sequence[str]) -> None:
        cases = self._cases
        lock = await asyncio.to_thread(cases.indexes.try_lock, name, "watch")
        if lock is not None:
            try:
                await cases.index_project(name, root, paths=paths, patience_s=_PATIENCE_S)
            finally:
                lock.release()

    def _known(self, name: str, root: str) -> Mapping[str, KnownFile]:
        """What the index of a project knows; nothing where there is none, or of another root."""
        try:
            index = self._cases.indexes.open(name)
        except ProjectNotFoundError:
            return {}
        try:
            return index.known() if index.state().root == root else {}
        except ProjectNotFoundError:  # forgotten meanwhile
            return {}
        finally:
            index.close()


def _taken(looks: list[Looked]) -> list[Looked]:
    taken = looks.copy()
    looks.clear()
    return taken


def _learn(known: dict[str, KnownFile], news: Mapping[str, KnownFile | None]) -> None:
    for path, now in news.items():
        if now is None:
            known.pop(path, None)
        else:
            known[path] = now


def _open(known: Mapping[str, KnownFile], one: KnownFile) -> bool:
    """Whether the hash of a file is not known yet, and it looks as it did."""
    seen = known.get(one.stat.path)
    return seen is not None and not seen.content_hash and seen.stat == one.stat


def _folder(root: str) -> tuple[str, str]:
    """A folder as it really is, and as it was called."""
    return real_folder(root), str(Path(root).absolute())
