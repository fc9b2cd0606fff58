"""The files of a project on this machine.

Design note. A path is judged by its name, then by `lstat`, then by its first bytes; the last costs
most and is remembered until the file's stat changes. Names from git or from a directory are never
trusted: whatever is opened goes through `beneath`, and is judged again on the descriptor that is
read. A file whose time stamp is younger than a tick of the kernel's clock could change once more
without its stat telling, so `read` waits for the tick to pass first; after that, equal stats mean
equal content.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from querycache.clock import Clock, SystemClock
from querycache.errors import UsageError
from querycache.origins.beneath import fault_of, lstat, opened, read_up_to
from querycache.origins.ignore import HEAD, IgnoreRules, fault_by_head, fault_by_name
from querycache.origins.listing import git_names, walked_names
from querycache.ports.origins import FileStat, Listed, SourceFile

OWN_IGNORE_FILE = ".querycacheignore"
"""At the root, in gitignore syntax: what git tracks but nobody wants to find."""

_TICK_NS = 10_000_000  # a coarse file time stamp at 100 Hz
_ATTEMPTS = 3  # to read a file that changes meanwhile
_NESTED = 4  # repositories inside one another


class LocalProjectFiles:
    """`ProjectFiles` under `root`, which must be a directory (`UsageError`).

    `list` passes over, by reason: too_large, binary, generated, vendored, ignored, symlink,
    not_regular, outside, bad_name, unreadable, too_many. Any number of threads may use it.
    """

    def __init__(
        self,
        root: str,
        *,
        max_file_bytes: int = 1_000_000,
        max_files: int = 200_000,
        clock: Clock | None = None,
    ) -> None:
        self.root = os.path.realpath(root)
        if not Path(self.root).is_dir():
            raise UsageError(f"not a directory: {root}")
        self._max_file_bytes = max_file_bytes
        self._max_files = max_files
        self._clock = clock or SystemClock()
        self._last: _Sweep | None = None

    def list(self) -> Listed:
        sweep = _Sweep(self.root, self._max_file_bytes, self._last)
        names = git_names(self.root)
        # Git says nothing of a root that an outer repository ignores.
        sweep.add(names or walked_names(self.root, sweep.skipped))
        files = sorted(sweep.files.values(), key=lambda file: file.path)
        if len(files) > self._max_files:
            sweep.skipped["too_many"] = len(files) - self._max_files
            del files[self._max_files :]
        self._last = sweep
        return Listed(tuple(files), dict(+sweep.skipped))

    def stat(self, path: str) -> FileStat | None:
        """As the port says; a folder that became a link is noticed by the next `list`."""
        last = self._last
        try:
            if last and path in last.files:  # its folders were checked then
                found = os.lstat(f"{self.root}/{path}")
            else:
                found = lstat(self.root, path)
        except OSError:
            return None
        return _stat_of(path, found) if found and stat.S_ISREG(found.st_mode) else None

    def read(self, path: str) -> SourceFile | None:
        if fault_by_name(path):
            return None
        for attempt in range(_ATTEMPTS):
            with opened(self.root, path) as descriptor:
                if descriptor is None:
                    return None
                before = self._settled(descriptor)
                data = read_up_to(descriptor, self._max_file_bytes + 1)
                after = os.fstat(descriptor)
            if len(data) > self._max_file_bytes or fault_by_head(path, data[:HEAD]):
                return None
            steady = _signature(before) == _signature(after) and len(data) == before.st_size
            if steady or attempt == _ATTEMPTS - 1:
                # Where it still changes, the older stat makes it look changed the next time.
                content_hash = hashlib.blake2b(data, digest_size=16).hexdigest()
                return SourceFile(_stat_of(path, before), content_hash, data)
        return None

    def accepts(self, path: str) -> bool:
        """As the port says; a path with a slash at its end is that of a folder."""
        if fault_of(path.removesuffix("/")) or fault_by_name(path):
            return False
        last = self._last
        return last is None or last.knows(path) or not last.ignores(path)

    def _settled(self, descriptor: int) -> os.stat_result:
        """The stat of a file, once a further change to it would show in its time stamp."""
        found = os.fstat(descriptor)
        age_ns = int(self._clock.wall() * 1e9) - found.st_mtime_ns
        if 0 <= age_ns < _TICK_NS:
            threading.Event().wait((_TICK_NS - age_ns) / 1e9)
            found = os.fstat(descriptor)
        return found


class _Judged(NamedTuple):
    """What a file's first bytes told, and the stat that this holds for."""

    signature: tuple[int, int, int, int]
    fault: str


class _Sweep:
    """One pass over a project's names."""

    def __init__(self, root: str, max_file_bytes: int, last: _Sweep | None) -> None:
        self.files: dict[str, FileStat] = {}
        self.skipped: Counter[str] = Counter()
        self._root = root
        self._max_file_bytes = max_file_bytes
        self._remembered = last.judged if last else {}
        self.judged: dict[str, _Judged] = {}
        self._folders: dict[str, bool] = {"": True}  # whether it is one, without a link on the way
        self._own = IgnoreRules(root)
        self._own.load("", OWN_IGNORE_FILE)
        self._of_git = IgnoreRules(root)
        self._of_git.load("", ".gitignore")

    def knows(self, path: str) -> bool:
        return path in self.files or (path.endswith("/") and path[:-1] in self._folders)

    def ignores(self, path: str) -> bool:
        """Whether the ignore files at the root rule a path out."""
        return self._own.ignores(path) or self._of_git.ignores(path)

    def add(self, names: Iterable[bytes], inside: bytes = b"", depth: int = 0) -> None:
        """Judges names; what is listed twice (a conflict in git) is judged once."""
        for name in dict.fromkeys(names):
            fault = self._judge((inside + name).rstrip(b"/"), depth)
            if fault:
                self.skipped[fault] += 1

    def _judge(self, name: bytes, depth: int) -> str:
        path = name.decode("utf-8", "surrogateescape")
        if fault := self._fault_of_path(path):
            return fault
        try:
            found = os.lstat(f"{self._root}/{path}")
        except FileNotFoundError:  # tracked by git and deleted
            return ""
        except OSError:
            return "unreadable"
        if stat.S_ISDIR(found.st_mode):
            self._add_repository(path, depth)
            return ""
        fault = self._fault_of_file(path, found)
        if not fault:
            self.files[path] = _stat_of(path, found)
        return fault

    def _fault_of_path(self, path: str) -> str:
        if fault := fault_of(path) or fault_by_name(path):
            return fault
        if self._own.ignores(path):
            return "ignored"
        return "" if self._is_folder(path.rpartition("/")[0]) else "symlink"

    def _fault_of_file(self, path: str, found: os.stat_result) -> str:
        if not stat.S_ISREG(found.st_mode):
            return "symlink" if stat.S_ISLNK(found.st_mode) else "not_regular"
        if found.st_size > self._max_file_bytes:
            return "too_large"
        judged = self._remembered.get(path)
        if judged is None or judged.signature != _signature(found):
            with opened(self._root, path) as descriptor:
                if descriptor is None:
                    return "unreadable"
                signature = _signature(os.fstat(descriptor))
                judged = _Judged(signature, fault_by_head(path, read_up_to(descriptor, HEAD)))
        self.judged[path] = judged
        return judged.fault

    def _add_repository(self, path: str, depth: int) -> None:
        """Adds the files of a submodule, or of a clone inside the project."""
        folder = f"{self._root}/{path}"
        if depth < _NESTED and os.path.lexists(f"{folder}/.git"):
            self.add(git_names(folder) or (), os.fsencode(f"{path}/"), depth + 1)

    def _is_folder(self, folder: str) -> bool:
        known = self._folders.get(folder)
        if known is None:
            try:
                mode = os.lstat(f"{self._root}/{folder}").st_mode
            except OSError:
                mode = stat.S_IFDIR  # gone: so are its files
            known = stat.S_ISDIR(mode) and self._is_folder(folder.rpartition("/")[0])
            self._folders[folder] = known
        return known


def _signature(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _stat_of(path: str, found: os.stat_result) -> FileStat:
    return FileStat(path, found.st_size, found.st_mtime_ns, found.st_ino)
