"""The registry through which a command sees the processes that are alive.

Each process keeps one JSON file, `<pid>-<start>.json`, in a folder that only its user can read. A
process identifier may be given out again, so a file speaks of a living process only if that
process also started when the file says. The start is read anew at each publication: it is
computed from the machine's boot time, which moves when the clock is set.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil

from querycache.clock import Clock

_INTERVAL_S = 1.0
_SAME_START_S = 2.0
_MAX_BYTES = 16 * 1024 * 1024


class Published(msgspec.Struct, frozen=True):
    """What a process told of itself.

    Attributes:
        pid: Its process identifier.
        started: Wall seconds at which it started.
        door: What it does: "serve", "mcp", "index" and so on.
        published_at: Wall seconds at which the document last changed.
        document: Its counters, its pressure, its last events: plain values.
        host: The machine, where it is another one (or another home of this one).
    """

    pid: int
    started: float
    door: str
    published_at: float
    document: dict[str, object]
    host: str = ""


class Registry:
    """This process's place in the registry, and the view of the others.

    Blocking, for some milliseconds at most: call it in a thread.
    """

    def __init__(self, folder: Path, door: str, clock: Clock) -> None:
        """`folder` is made when first needed; nothing is written before `publish`."""
        self.error = ""
        self._folder = folder
        self._door = door
        self._clock = clock
        self.pid = os.getpid()
        self._path = folder / f"{self.pid}-{_started(self.pid) * 1000:.0f}.json"
        self._last: bytes = b""
        self._due = clock.monotonic()
        self._closed = False

    def publish(self, document: Mapping[str, object]) -> bool:
        """Tells `document` if it changed and the last publication is a second ago; returns whether
        it did. Where the disk refuses, `error` says why, and the next call tries again.
        """
        now = self._clock.monotonic()
        if self._closed or now < self._due:
            return False
        content: bytes = msgspec.json.encode(document)
        if content == self._last and self._path.exists():
            return False
        whole = {
            "pid": self.pid,
            "started": _started(self.pid),
            "door": self._door,
            "published_at": self._clock.wall(),
            "document": msgspec.Raw(content),
        }
        self._due = now + _INTERVAL_S
        try:
            self._replace(msgspec.json.encode(whole))
        except OSError as error:
            self.error = f"{self._path}: {error.strerror}"
            return False
        self._last, self.error = content, ""
        return True

    def living(self) -> list[Published]:
        """What each living process told, this one included, longest running first. Files of the
        dead are deleted.
        """
        found: list[Published] = []
        for path in self._folder.glob("*-*.json*"):
            told = _read(path)
            if told is not None and _is_alive(told):
                found.append(told)
            elif told is not None or not _runs(path):
                path.unlink(missing_ok=True)
        return sorted(found, key=lambda told: (told.started, told.pid))

    def is_me(self, told: Published) -> bool:
        """Whether it is this process that told."""
        return told.pid == self.pid and not told.host

    def request(self, what: str) -> int:
        """Asks all processes for something; the number of the request. Raises `OSError`."""
        self._make_folder()
        path = self._folder / f"{what}.request"
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        return path.stat().st_mtime_ns

    def requested(self, what: str) -> int:
        """The number of the request for something; 0 where there is none."""
        try:
            return (self._folder / f"{what}.request").stat().st_mtime_ns
        except OSError:
            return 0

    def withdraw(self, what: str) -> None:
        """Asks no longer."""
        (self._folder / f"{what}.request").unlink(missing_ok=True)

    def close(self) -> None:
        """Leaves the registry; idempotent."""
        self._closed = True
        with suppress(OSError):  # its folder may be none
            self._path.unlink(missing_ok=True)

    def _make_folder(self) -> None:
        self._folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.mkdir(mode=0o700, exist_ok=True)

    def _replace(self, data: bytes) -> None:
        self._make_folder()
        part = self._path.with_suffix(".json-part")
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        part.replace(self._path)


def _read(path: Path) -> Published | None:
    """None for what is half written, of another version, too large or gone."""
    if path.suffix != ".json":
        return None
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        return None if len(data) > _MAX_BYTES else msgspec.json.decode(data, type=Published)
    except (OSError, ValueError):
        return None


def _runs(path: Path) -> bool:
    pid = path.name.partition("-")[0]
    return pid.isdecimal() and psutil.pid_exists(int(pid))


def _is_alive(told: Published) -> bool:
    try:
        process = psutil.Process(told.pid)
        same = abs(process.create_time() - told.started) < _SAME_START_S
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, ValueError):
        return False
    except psutil.AccessDenied:
        return True


def _started(pid: int) -> float:
    return psutil.Process(pid).create_time()
