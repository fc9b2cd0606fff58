"""Opens files beneath a root, and nowhere else.

Every directory on the way is opened relative to the one before it and never through a link, so
that nobody who swaps a directory for a link between two steps can lead outside.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress

LONGEST = 4_096  # bytes of a path
DEEPEST = 64  # names in a path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# A FIFO opens at once, a terminal doesn't become ours.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def fault_of(path: str) -> str:
    """Why a relative path is refused: "outside", "bad_name", or "" where it isn't.

    A bad name is not UTF-8, has control characters (a newline in a path forges lines of output),
    or is too long or too deep.
    """
    names = path.split("/")
    if path.startswith("/") or ".." in names:
        return "outside"
    if not path.isprintable() and any(c < " " or c == "\x7f" for c in path):
        return "bad_name"
    if "" in names or "." in names or len(names) > DEEPEST or len(path) > LONGEST:
        return "bad_name"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "bad_name"
    return ""


def lstat(root: str, path: str) -> os.stat_result | None:
    """What is at `path`, None where there is nothing or a link on the way there. Opens nothing."""
    if fault_of(path):
        return None
    try:
        at = path.find("/")
        while at >= 0:
            if not stat.S_ISDIR(os.lstat(f"{root}/{path[:at]}").st_mode):
                return None
            at = path.find("/", at + 1)
        return os.lstat(f"{root}/{path}")
    except OSError:
        return None


@contextmanager
def opened(root: str, path: str) -> Generator[int | None]:
    """A descriptor of the regular file at `path`; None where there is none that may be read."""
    descriptor = None if fault_of(path) else _open(root, path)
    if descriptor is None:
        yield None
        return
    try:
        yield descriptor if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    finally:
        os.close(descriptor)


def read_up_to(descriptor: int, size: int) -> bytes:
    """The first `size` bytes, fewer only at the end of the file."""
    parts: list[bytes] = []
    while size > 0 and (part := os.read(descriptor, min(size, 1 << 20))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _open(root: str, path: str) -> int | None:
    *folders, name = path.split("/")
    with suppress(OSError):
        at = os.open(root, _DIRECTORY)
        try:
            for folder in folders:
                below = os.open(folder, _DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
                os.close(at)
                at = below
            # A device is not even opened.
            if stat.S_ISREG(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
                return os.open(name, _FILE, dir_fd=at)
        finally:
            os.close(at)
    return None
