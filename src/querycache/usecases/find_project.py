"""Find a project: by name, by folder, or as the one that holds the working directory."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from querycache.errors import ProjectNotFoundError, UsageError
from querycache.keys import sayable
from querycache.ports.origins import Indexes, IndexState

SETTINGS_FILE = ".querycache.toml"
_MOST_BYTES = 64 * 1024
_NAME = re.compile(r"[^\x00-\x1f\x7f/\ud800-\udfff]{1,100}")


def real_folder(root: str) -> str:
    """A folder as it really is. Raises `UsageError` for what is none, and for a path that is not
    UTF-8, which no answer could name.
    """
    real = os.path.realpath(root)
    if not Path(real).is_dir():
        raise UsageError(f"{root!r} is not a folder", remedy="name the folder of a project")
    if sayable(real) != real:
        raise UsageError(f"the path {real!r} is not UTF-8", remedy="give the folder another name")
    return real


class FindProject:
    """The use case. Blocking, for some milliseconds at most: call it in a thread."""

    def __init__(self, indexes: Indexes) -> None:
        self._indexes = indexes

    def states(self) -> list[IndexState]:
        """Where each project of this machine stands, by name."""
        found: list[IndexState] = []
        for name in self._indexes.names():
            try:
                index = self._indexes.open(name)
            except ProjectNotFoundError:  # forgotten meanwhile
                continue
            try:
                found.append(index.state())
            finally:
                index.close()
        return found

    def existing(self, name: str = "", folder: str = "") -> str:
        """The project meant: `name`, else the one whose root holds `folder`, else the only one.

        Raises `ProjectNotFoundError`, which lists those that there are.
        """
        names = self._indexes.names()
        if name:
            if name in names:
                return name
            raise _not_found(f"no project {name!r} is indexed", names)
        if folder:
            real = Path(os.path.realpath(folder))
            for parent in (real, *real.parents):
                found = self._indexes.find(str(parent))
                if found is not None:
                    return found
        if len(names) == 1:
            return names[0]
        if not names:
            raise _not_found("no project is indexed", names)
        raise _not_found("several projects are indexed, and none was named", names)

    def name_for(self, root: str, name: str = "") -> str:
        """The name under which `root` is, or is to be, indexed: `name`; else the one it has; else
        `project` in its `.querycache.toml`; else its folder's name, with 4 hex digits of its path
        where another root has that name.

        Raises `UsageError` where `root` is no folder or another root has the `name` that was asked
        for.
        """
        real = real_folder(root)
        held = self._indexes.find(real)
        if name:
            _check(name)
            if held != name and self._taken(name, real):
                raise UsageError(
                    f"another folder is indexed as {name!r}",
                    remedy=f"take another --project, or `querycache forget {name}` first",
                )
            return name
        if held is not None:
            return held
        wanted = _declared(real) or Path(real).name or "root"
        if not self._taken(wanted, real):
            return wanted
        return f"{wanted}-{blake2b(os.fsencode(real)).hexdigest()[:4]}"

    def holding(self, paths: Sequence[str]) -> list[str]:
        """The projects whose root holds one of these absolute paths."""
        return [
            state.name
            for state in self.states()
            if any(path == state.root or path.startswith(f"{state.root}/") for path in paths)
        ]

    def _taken(self, name: str, real: str) -> bool:
        """Whether a root that still exists has this name."""
        if name not in self._indexes.names():
            return False
        try:
            index = self._indexes.open(name)
        except ProjectNotFoundError:
            return False
        try:
            root = index.state().root
        finally:
            index.close()
        return root != real and Path(root).is_dir()


def _declared(root: str) -> str:
    file = Path(root, SETTINGS_FILE)
    try:
        if file.is_symlink() or file.stat().st_size > _MOST_BYTES:
            return ""
        name = tomllib.loads(file.read_text()).get("project", "")
    except (OSError, ValueError):
        return ""
    if not isinstance(name, str) or not name:
        return ""
    _check(name)
    return name


def _check(name: str) -> None:
    if not _NAME.fullmatch(name) or name in {".", "..", "_"}:
        raise UsageError(
            f"{name!r} can't name a project",
            remedy="use 1 to 100 characters without slashes and control characters",
        )


def _not_found(message: str, names: list[str]) -> ProjectNotFoundError:
    known = f"indexed are: {', '.join(names)}; name one with --project" if names else ""
    return ProjectNotFoundError(message, remedy=known or "index one: querycache index PATH")
