"""The files of the embedded store: where they are, who may touch them, what becomes of damaged
ones.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from querycache.errors import TierError

RESERVE = 1024 * 1024
"""Bytes set aside so that a full disk still takes an invalidation."""

_KEPT = 2  # damaged databases that are kept for a look
_STEP_S = 0.002
_REMOTE = frozenset({
    "9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs",
    "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs", "virtiofs",
})  # fmt: skip

Inodes = tuple[tuple[int, int] | None, ...]


class Files:
    """The paths of one store."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._folder = Path(folder)
        self.database = str(self._folder / "l2.sqlite")
        self.log = f"{self.database}-wal"
        self.index = f"{self.database}-shm"
        self.epoch = str(self._folder / "l2.epoch")
        self._lock = self._folder / "l2.lock"
        self._reserve = self._folder / "l2.reserve"

    def prepare(self) -> None:
        """Makes the folder, for this user only. Raises `TierError` where it can't serve."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self._folder.stat()
        if status.st_uid != os.geteuid():
            raise TierError(
                f"the cache folder {self.folder} belongs to another user",
                remedy="Choose a folder of your own (QUERYCACHE_HOME).",
            )
        if status.st_mode & 0o077:
            self._folder.chmod(0o700)
        kind = ""
        with suppress(OSError):  # other systems have no such file
            mounts = Path("/proc/self/mountinfo").read_text("utf-8", "replace")
            kind = file_system(str(self._folder.resolve()), mounts)
        if is_remote(kind):
            raise TierError(
                f"the cache folder {self.folder} is on a network file system ({kind}), where "
                "processes can't share memory and locks",
                remedy="Choose a folder on a local disk (QUERYCACHE_HOME), or use Redis.",
            )
        self.touch()

    def touch(self) -> None:
        """Makes the database file, readable by this user only, where there is none."""
        # O_EXCL: to open and close an existing one would drop SQLite's locks on it.
        with suppress(FileExistsError):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            os.close(os.open(self.database, flags, 0o600))

    @contextmanager
    def locked(self, patience_s: float) -> Generator[None]:
        """Holds the right to open, make or set aside the files. Raises `TierError` after
        `patience_s`.
        """
        descriptor = self._take_lock(patience_s)
        try:
            yield
        finally:
            os.close(descriptor)

    def inodes(self) -> Inodes:
        """What is at the paths now: equal values say that the open files are still those."""
        return tuple(map(_inode, (self.database, self.log, self.index, self.epoch)))

    def set_aside(self, stamp: int) -> None:
        """Takes the database away from its path; keeps a few such for a look."""
        with suppress(FileNotFoundError):
            Path(self.database).rename(f"{self.database}.damaged-{stamp}")
        with suppress(FileNotFoundError):
            Path(self.log).rename(f"{self.database}.damaged-{stamp}-wal")
        for path in (self.index, self.epoch):
            _unlink(path)
        kept = sorted({path.name.removesuffix("-wal") for path in self._damaged()})
        for path in self._damaged():
            if path.name.removesuffix("-wal") not in kept[-_KEPT:]:
                _unlink(path)

    def discard(self) -> None:
        """Takes the database away, and what was kept of others: for room on a full disk."""
        for path in (self.database, self.log):
            with suppress(FileNotFoundError):
                os.truncate(path, 0)  # gives its room back also while others have it open
        for path in (self.database, self.log, self.index, self.epoch):
            _unlink(path)
        self.free_room()

    def free_room(self) -> None:
        """Gives up the reserve and what was kept of damaged databases."""
        _unlink(self._reserve)
        for path in self._damaged():
            _unlink(path)

    def available(self) -> int:
        """Bytes that the disk has left for us."""
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize

    def total(self) -> int:
        """Bytes that the disk can hold."""
        status = os.statvfs(self.folder)
        return status.f_blocks * status.f_frsize

    def prepare_for_full(self, log_bytes: int) -> bool:
        """Takes the room of a whole log, and the reserve, while the disk has plenty; says whether
        it had.
        """
        for path, size in ((self.log, log_bytes), (self._reserve, RESERVE)):
            if not size:
                continue
            if self.available() < 4 * size:
                return False
            try:
                _allocate(path, size)
            except OSError:
                return False
        return True

    def _damaged(self) -> list[Path]:
        return sorted(self._folder.glob(f"{Path(self.database).name}.damaged-*"))

    def _take_lock(self, patience_s: float) -> int:
        for _ in range(max(1, int(patience_s / _STEP_S))):
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                time.sleep(_STEP_S)
                continue
            status = os.fstat(descriptor)
            if _inode(self._lock) == (status.st_dev, status.st_ino):
                return descriptor
            os.close(descriptor)  # the folder was wiped meanwhile: that lock excludes nobody
        raise TierError(
            f"another process has held {self._lock} for {patience_s:g} s",
            remedy="See who it is with `fuser`; it may be stopped.",
        )


def _inode(path: str | Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 -- four for each transaction: a Path costs more
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _unlink(path: str | Path) -> None:
    Path(path).unlink(missing_ok=True)


def _allocate(path: str | Path, size: int) -> None:
    """Has a file hold at least `size` bytes of the disk."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        have = os.fstat(descriptor).st_size
        if have >= size:
            return
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.pwrite(descriptor, bytes(size - have), have)
    finally:
        os.close(descriptor)


def file_system(folder: str, mounts: str) -> str:
    """The type of the file system that holds `folder`, by the text of Linux's `mountinfo`; ""
    where that does not say.
    """
    best, kind = "", ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        mount = left.split()[4].replace("\\040", " ")
        inside = folder == mount or folder.startswith(f"{mount.rstrip('/')}/")
        if inside and len(mount) >= len(best):
            best, kind = mount, right.split()[0]
    return kind


def is_remote(kind: str) -> bool:
    """Whether processes on a file system of this type may not share memory and locks."""
    return kind in _REMOTE
