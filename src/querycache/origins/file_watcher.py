"""Reports changed files under a root, by inotify, or by polling where that is not to be had.

Design note. Left to itself the notification library follows links out of the root and watches
every folder under it, node_modules too. So it is handed the folders one by one: those that are
accepted, and no links. A new folder makes the list longer: the watch is set up anew before the old
one is drained and closed, and what is in the folder by then is reported, so that nothing falls
between. A thread waits for events, filters and maps them, and hands batches to the event loop,
where they are joined until the consumer asks for the next.

Loss can't be seen from here, only suspected: after a flood, after a pause of the process, after
any failure. An empty batch says so.
"""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Literal, Protocol

from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

from querycache.clock import Clock, SystemClock

Accepts = Callable[[str], bool]

_STEP_MS = 10
_DEBOUNCE_MS = 50
_WAKE_MS = 1_000  # between looks at the clock
_PAUSED_S = 2.5  # of a wait that should have ended after _WAKE_MS
_MAX_FAILURES = 3  # in a row, before polling
_MAX_CHANGES = 100  # of the folders while a watch is set up, before polling
_ADDED = 1  # the library's number for a path that came


class FileWatcher:
    """`Watcher` on the machine's file notifications.

    Folders are put to `accepts` with a slash at the end, and one that is refused is not watched.
    A reported path may be that of a folder that went, with everything in it. `mode` tells how:
    "polling" looks every `poll_delay_ms`, and is what remains where the limits of inotify
    (instances, watches) are reached. More than `flood` paths in one batch, or waiting for the
    consumer, are taken for a loss; the kernel's queue holds twice as many. `watch` ends when the
    root is gone.
    """

    def __init__(
        self, *, poll_delay_ms: int = 1_000, flood: int = 8_192, clock: Clock | None = None
    ) -> None:
        self.mode: Literal["inotify", "polling"] = "inotify"
        self._poll_delay_ms = poll_delay_ms
        self._flood = flood
        self._clock = clock or SystemClock()

    async def watch(self, root: str, accepts: Accepts) -> AsyncGenerator[frozenset[str]]:
        inbox = _Inbox(asyncio.get_running_loop(), self._flood)
        watching = _Watching(root, accepts, inbox, self._open, self._clock.monotonic)
        thread = threading.Thread(target=watching.run, name="querycache-watch", daemon=True)
        thread.start()
        try:
            while (batch := await inbox.take()) is not None:
                yield batch
        finally:
            watching.stop.set()
            await asyncio.to_thread(thread.join)

    def _open(self, folders: list[str], *, polling: bool) -> _Notify:
        """Raises `FileNotFoundError` or `PermissionError` where a folder changed meanwhile."""
        if not polling:
            try:
                # Told to ignore missing permissions, it ignores the limits of inotify too.
                return RustNotify(folders, False, False, self._poll_delay_ms, False, False)
            except (FileNotFoundError, PermissionError):
                raise
            except (OSError, WatchfilesRustInternalError):
                pass
        self.mode = "polling"
        return RustNotify(folders, False, True, self._poll_delay_ms, False, True)


class _Notify(Protocol):
    """What is used of `RustNotify`."""

    def watch(
        self, debounce_ms: int, step_ms: int, timeout_ms: int, stop_event: threading.Event, /
    ) -> set[tuple[int, str]] | Literal["signal", "stop", "timeout"]: ...
    def close(self) -> None: ...


class _Open(Protocol):
    def __call__(self, folders: list[str], *, polling: bool) -> _Notify: ...


class _Inbox:
    """Batches on their way from the thread to the event loop, joined while nobody takes them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, flood: int) -> None:
        self._loop = loop
        self._flood = flood
        self._arrived = asyncio.Event()
        self._pending: set[str] = set()
        self._lost = False
        self._ended = False

    def put(self, paths: set[str], *, lost: bool = False, ended: bool = False) -> None:
        """Called by the thread."""
        if paths or lost or ended:
            with suppress(RuntimeError):  # the loop is closed: nobody listens
                self._loop.call_soon_threadsafe(self._put, paths, lost, ended)

    def is_open(self) -> bool:
        return not self._loop.is_closed()

    def _put(self, paths: set[str], lost: bool, ended: bool) -> None:  # noqa: FBT001 -- a callback
        self._pending |= paths
        self._lost = self._lost or lost or len(self._pending) > self._flood
        self._ended = self._ended or ended
        if self._lost:
            self._pending.clear()
        self._arrived.set()

    async def take(self) -> frozenset[str] | None:
        """The next batch, None after the last one."""
        await self._arrived.wait()
        if self._ended and not self._pending and not self._lost:
            return None
        batch, self._pending, self._lost = frozenset(self._pending), set[str](), False
        if not self._ended:
            self._arrived.clear()
        return batch


class _Watching:
    """The thread's side of one `watch`."""

    def __init__(
        self,
        root: str,
        accepts: Accepts,
        inbox: _Inbox,
        open_: _Open,
        monotonic: Callable[[], float],
    ) -> None:
        self.stop = threading.Event()
        self._root = os.path.realpath(root)
        self._accepts = accepts
        self._inbox = inbox
        self._open = open_
        self._monotonic = monotonic
        self._folders: set[str] = set()  # absolute
        self._failures = 0
        self._changed_meanwhile = 0

    def run(self) -> None:
        notify: _Notify | None = None
        try:
            self._scan(self._root)
            notify = self._opened()
            # What changed before the watch stood is for a look at everything.
            self._inbox.put(set(), lost=True)
            while notify is not None and not self.stop.is_set() and self._inbox.is_open():
                notify = self._step(notify)
        finally:
            if notify is not None:
                notify.close()
            self._inbox.put(set(), lost=True, ended=True)

    def _step(self, notify: _Notify) -> _Notify | None:
        """Waits for one batch; the watch to go on with, None once the root is gone."""
        begun = self._monotonic()
        try:
            events = notify.watch(_DEBOUNCE_MS, _STEP_MS, _WAKE_MS, self.stop)
        except WatchfilesRustInternalError:
            self._failures += 1
            notify.close()
            self._inbox.put(set(), lost=True)
            return self._opened()
        self._failures = self._changed_meanwhile = 0
        lost = self._monotonic() - begun > _PAUSED_S
        if isinstance(events, str):
            self._inbox.put(set(), lost=lost)
            return notify if _is_folder(self._root) else None
        changed, folders = self._mapped(events)
        renewed = self._renewed(notify, changed, folders) if folders else notify
        self._inbox.put(changed, lost=lost)
        return renewed

    def _renewed(self, old: _Notify, changed: set[str], folders: set[str]) -> _Notify | None:
        """A watch that includes new folders; adds to `changed` what they hold."""
        while folders:
            for folder in folders:
                changed |= self._scan(folder)
            new = self._opened()
            # What came before the watch on its folder was set up, the second look finds.
            known = len(self._folders)
            for folder in folders:
                changed |= self._scan(folder)
            more, late = self._rest(old)
            if new is None:
                return None
            changed |= more
            folders = late if len(self._folders) == known else folders | late
            old = new
        return old

    def _rest(self, old: _Notify) -> tuple[set[str], set[str]]:
        """What a watch has not told yet; it is closed."""
        try:
            events = old.watch(1, 1, 1, self.stop)
        except WatchfilesRustInternalError:
            self._inbox.put(set(), lost=True)
            return set(), set()
        finally:
            old.close()
        return (set(), set()) if isinstance(events, str) else self._mapped(events)

    def _opened(self) -> _Notify | None:
        """None where the root is gone, or even polling fails."""
        while not self.stop.is_set() and _is_folder(self._root):
            self._folders = set(filter(_is_readable, self._folders))
            try:
                return self._open(sorted(self._folders), polling=self._failures >= _MAX_FAILURES)
            except (FileNotFoundError, PermissionError):
                self._changed_meanwhile += 1
                if self._changed_meanwhile >= _MAX_CHANGES:
                    self._failures = _MAX_FAILURES
            except (OSError, WatchfilesRustInternalError):
                break
        return None

    def _mapped(self, events: set[tuple[int, str]]) -> tuple[set[str], set[str]]:
        """The accepted paths, relative, and the new folders."""
        changed: set[str] = set()
        folders: set[str] = set()
        for kind, path in events:
            relative = path[len(self._root) + 1 :]
            if _is_folder(path):
                new = kind == _ADDED or path not in self._folders
                if new and relative and self._accepts(f"{relative}/"):
                    folders.add(path)
            elif relative and self._accepts(relative):
                changed.add(relative)
        return changed, folders

    def _scan(self, top: str) -> set[str]:
        """Takes a folder and those below it into the watch; the accepted files in them."""
        files: set[str] = set()
        waiting = [top]
        while waiting and not self.stop.is_set():
            folder = waiting.pop()
            if not _is_readable(folder):
                continue
            self._folders.add(folder)
            for entry in _entries(folder):
                relative = entry.path[len(self._root) + 1 :]
                if entry.is_dir(follow_symlinks=False):
                    if self._accepts(f"{relative}/"):
                        waiting.append(entry.path)
                elif self._accepts(relative):
                    files.add(relative)
        return files


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _is_readable(folder: str) -> bool:
    return _is_folder(folder) and os.access(folder, os.R_OK)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:  # gone meanwhile, or not ours to read
        return []
