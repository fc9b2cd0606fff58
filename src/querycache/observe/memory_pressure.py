"""What memory this process may have, and how much of it is used: cgroups, limits, the machine.

The limits are those of the process's own cgroup and of each that contains it (v2 and v1), and
RLIMIT_AS; the tightest is told, and the machine's memory only where there is none. Pages of files
that were not used of late are no use of memory: the kernel gives them up before it kills anyone.
The functions are pure, over what the files hold; `ProcessMemory` reads the files.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import psutil

from querycache.ports.memory import Reading, Source

_UNLIMITED = 1 << 60
_PAGE = 65_536


class Mount(NamedTuple):
    """Where a hierarchy of cgroups is seen: `root` is the cgroup that `at` shows."""

    version: Literal[1, 2]
    root: str
    at: str


class Used(NamedTuple):
    """Bytes used of a limit."""

    used: int
    limit: int

    @property
    def share(self) -> float:
        return self.used / self.limit if self.limit else 0.0


def mounts_of(mountinfo: str) -> list[Mount]:
    """The hierarchies that can limit memory, in the text of /proc/self/mountinfo."""
    found: list[Mount] = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3:  # noqa: PLR2004 -- root and mount point; options
            continue
        at = fields[4].replace("\\040", " ")
        if kind[0] == "cgroup2":
            found.append(Mount(2, fields[3], at))
        elif kind[0] == "cgroup" and "memory" in kind[2].split(","):
            found.append(Mount(1, fields[3], at))
    return found


def folders_of(cgroups: str, mounts: Iterable[Mount]) -> list[tuple[int, str]]:
    """The version and the folder of this process's cgroup and of each that contains it, as far as
    they can be seen. `cgroups` is the text of /proc/self/cgroup.
    """
    paths: dict[int, str] = {}
    for line in cgroups.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            paths[2] = path
        elif "memory" in controllers.split(","):
            paths[1] = path
    found: list[tuple[int, str]] = []
    for mount in mounts:
        path = paths.get(mount.version)
        if path is None:
            continue
        at, parts = mount.at.rstrip("/"), _below(path, mount.root)
        depths = range(len(parts), -1, -1)
        found += [(mount.version, "/".join([at, *parts[:depth]])) for depth in depths]
    return found


def used_of_v2(files: Mapping[str, str]) -> Used | None:
    """What a cgroup (v2) uses of its limit; None without a limit. `memory.high` is one: past it
    the kernel slows the process down.
    """
    limits = [_number(files.get(name)) for name in ("memory.max", "memory.high")]
    limit = min((limit for limit in limits if limit is not None), default=_UNLIMITED)
    return _used(limit, _number(files.get("memory.current")), files, "inactive_file")


def used_of_v1(files: Mapping[str, str]) -> Used | None:
    """The same of a cgroup (v1)."""
    limit = _number(files.get("memory.limit_in_bytes"))
    usage = _number(files.get("memory.usage_in_bytes"))
    return _used(limit or _UNLIMITED, usage, files, "total_inactive_file")


_KNOWN = {
    1: (("memory.limit_in_bytes",), ("memory.usage_in_bytes", "memory.stat"), used_of_v1),
    2: (("memory.max", "memory.high"), ("memory.current", "memory.stat"), used_of_v2),
}
"""By version: the files with limits, those with the rest, and what reads them."""


def address_space(limits: str) -> int | None:
    """The soft RLIMIT_AS in the text of /proc/self/limits; None where there is none."""
    for line in limits.splitlines():
        if line.startswith("Max address space"):
            return _number(line.removeprefix("Max address space").split()[0])
    return None


def stalled_of(pressure: str) -> float | None:
    """`some avg10` in the text of a memory pressure file, in percent."""
    for line in pressure.splitlines():
        kind, *fields = line.split()
        if kind == "some":
            values = dict(field.split("=", 1) for field in fields if "=" in field)
            return _float(values.get("avg10"))
    return None


def tightest(
    cgroups: Iterable[Used | None], space: Used | None, system: Used
) -> tuple[Source, Used]:
    """The limit whose largest share is used; one beyond the machine's memory is none."""
    limits: list[tuple[Source, Used]] = [
        ("cgroup", used) for used in cgroups if used is not None and used.limit < system.limit
    ]
    if space is not None:
        limits.append(("address space", space))
    return max(limits, key=lambda limit: limit[1].share, default=("system", system))


class ProcessMemory:
    """Reads what memory this process may have. Blocking, for well under a millisecond.

    Args:
        root: Where the machine's files are; another one in tests.
        system: Bytes used and there in the whole machine.
        own: Bytes that this process has in memory, and its address space.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        *,
        system: Callable[[], Used] | None = None,
        own: Callable[[], tuple[int, int]] | None = None,
    ) -> None:
        self._root = str(root).rstrip("/")
        self._system = system or _system
        self._own = own or _own()
        self._mounts = mounts_of(self._text("proc/self/mountinfo"))

    def read(self) -> Reading:
        """How it is now."""
        folders = folders_of(self._text("proc/self/cgroup"), self._mounts)
        cgroups = [self._cgroup(version, folder) for version, folder in folders]
        rss, size = self._own()
        most = address_space(self._text("proc/self/limits"))
        space = Used(size, most) if most is not None else None
        source, used = tightest(cgroups, space, self._system())
        return Reading(used.used, used.limit, source, rss, self._stalled(folders))

    def _cgroup(self, version: int, folder: str) -> Used | None:
        limits, rest, used_of = _KNOWN[version]
        texts = {name: self._text(f"{folder}/{name}") for name in limits}
        if not any(_bounded(text) for text in texts.values()):
            return None  # most have no limit: the rest need not be read
        return used_of(texts | {name: self._text(f"{folder}/{name}") for name in rest})

    def _stalled(self, folders: Iterable[tuple[int, str]]) -> float | None:
        own = [f"{folder}/memory.pressure" for version, folder in folders if version == 2]  # noqa: PLR2004 -- v2
        for path in (*own[:1], "proc/pressure/memory"):
            stalled = stalled_of(self._text(path))
            if stalled is not None:
                return stalled
        return None

    def _text(self, path: str) -> str:
        try:
            handle = os.open(f"{self._root}/{path}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # another kernel, another container
            return ""
        try:  # by hand: a file object costs as much as the rest of the look
            return b"".join(iter(partial(os.read, handle, _PAGE), b"")).decode("utf-8", "replace")
        except OSError:
            return ""
        finally:
            os.close(handle)


def resident(pid: int | None = None) -> int:
    """Bytes that a process (this one) has in memory. Raises `LookupError` if there is none that
    may be looked at.
    """
    try:
        rss = int(psutil.Process(pid).memory_info().rss)
    except (psutil.Error, ValueError, OverflowError) as error:
        raise LookupError(f"process {pid} can't be looked at: {error}") from None
    if not rss:  # it ended, and its parent has not asked how; or it is the kernel's
        raise LookupError(f"process {pid} has no memory")
    return rss


def give_back() -> bool:
    """Has the allocator return what is free to the machine; whether it did. Where the C library
    can't be asked, it does so in its own time.
    """
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (AttributeError, OSError, TypeError):
        return False


def _system() -> Used:
    memory = psutil.virtual_memory()
    return Used(memory.total - memory.available, memory.total)


def _own() -> Callable[[], tuple[int, int]]:
    process = psutil.Process()

    def own() -> tuple[int, int]:
        memory = process.memory_info()
        return memory.rss, memory.vms

    return own


def _below(path: str, root: str) -> list[str]:
    """The segments of a cgroup's path below the cgroup that is mounted; none for a cgroup that is
    not there.
    """
    top = root.rstrip("/")
    if path != top and not path.startswith(f"{top}/"):
        return []
    parts = [part for part in path[len(top) :].split("/") if part]
    return [] if ".." in parts else parts


def _used(
    limit: int, usage: int | None, files: Mapping[str, str], reclaimable: str
) -> Used | None:
    if usage is None or not 0 < limit < _UNLIMITED:
        return None
    stat = dict(line.split(" ", 1) for line in files.get("memory.stat", "").splitlines() if line)
    return Used(max(0, usage - (_number(stat.get(reclaimable)) or 0)), limit)


def _number(text: str | None) -> int | None:
    """A number of bytes; None for "max", "unlimited" and what is not there."""
    word = (text or "").strip()
    return int(word) if word.isdecimal() else None


def _bounded(text: str) -> bool:
    number = _number(text)
    return number is not None and number < _UNLIMITED


def _float(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
