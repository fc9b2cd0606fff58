"""Wait, within bounds, for the first look at a folder that was given at the start."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from querycache.errors import ProjectNotFoundError, UsageError

if TYPE_CHECKING:
    from querycache.assembly.app import App

PATIENCE_S = 60.0
_LOOK_EVERY_S = 0.1
_TELL_EVERY_S = 1.0

Report = Callable[[float, float | None, str], Awaitable[None]]
"""Tells progress: done, total, a line."""


class _Standing(NamedTuple):
    """How far a project is: whether its files were looked at once, how many are indexed."""

    over: bool
    files: int
    error: str = ""


class FirstRun:
    """The folders of one server, and which of them have been looked at."""

    def __init__(self, roots: Sequence[str], patience_s: float = PATIENCE_S) -> None:
        self._roots = tuple(os.path.realpath(root) for root in roots)
        self._patience_s = patience_s
        self._names: dict[str, str] = {}
        self._over: set[str] = set()

    @property
    def folder(self) -> str:
        """The folder whose project is meant where none is named: the only one given, or ""."""
        return self._roots[0] if len(self._roots) == 1 else ""

    async def wait(self, app: App, project: str, report: Report | None = None) -> str:
        """Returns when the project has been looked at, or patience ends; what its answers lack, or
        "".
        """
        name = await self._name(app, project)
        if name is None or name in self._over:
            return ""
        started = told = app.clock.monotonic()
        while True:
            standing = await asyncio.to_thread(_standing, app, name)
            if standing.over:
                self._over.add(name)
                return ""
            if standing.error:
                return f"{name!r} could not be brought up to date: {standing.error}"
            now = app.clock.monotonic()
            if now - started >= self._patience_s:
                return f"{name!r} is still being indexed: {standing.files} files are searched"
            if report is not None and now - told >= _TELL_EVERY_S:
                told = now
                line = f"indexing {name}: {standing.files} files so far"
                await report(now - started, self._patience_s, line)
            await app.clock.sleep(_LOOK_EVERY_S)

    async def _name(self, app: App, project: str) -> str | None:
        """The project that is meant, if it is one of the folders given at the start."""
        if not project and not self.folder:
            return None
        for root in self._roots:
            name = self._names.get(root)
            if name is None:
                try:
                    name = await asyncio.to_thread(app.find_project.name_for, root)
                except UsageError:  # the folder is gone
                    continue
                self._names[root] = name
            if not project or name == project:
                return name
        return None


def _standing(app: App, name: str) -> _Standing:
    """Blocking: call it in a thread."""
    watched = app.watch_files.watched.get(name)
    ours = watched is not None and watched.watching
    try:
        index = app.indexes.open(name)
    except ProjectNotFoundError:
        return _Standing(over=False, files=0, error=watched.error if watched and ours else "")
    try:
        state = index.state()
    except ProjectNotFoundError:  # forgotten meanwhile
        return _Standing(over=True, files=0)
    finally:
        index.close()
    if watched is not None and ours:
        return _Standing(over=watched.sweeps > 0, files=state.files, error=watched.error)
    return _Standing(over=state.indexed_at > 0.0, files=state.files)
