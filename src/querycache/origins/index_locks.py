"""Rights between processes, as advisory file locks: they end with the process that holds them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class FileLock:
    """A held lock of flock(2). Each one has a descriptor of its own, so it also holds between
    threads.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.release()


def take(path: str, *, shared: bool = False) -> FileLock:
    """Waits for the lock."""
    descriptor = os.open(path, _FLAGS, 0o600)
    lock = FileLock(descriptor)
    fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    return lock


def try_take(path: str) -> FileLock | None:
    """None while anyone holds it."""
    descriptor = os.open(path, _FLAGS, 0o600)
    lock = FileLock(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.release()
        return None
    return lock


@contextmanager
def held(path: str, *, shared: bool = False) -> Generator[None]:
    """Holds the lock for the length of a block."""
    lock = take(path, shared=shared)
    try:
        yield
    finally:
        lock.release()
