"""Backup files on the disk: written beside their place and moved there whole; read to their end
before anything in them is believed.

Design note. The writer's file is made new (O_EXCL, mode 0600, no link is followed), synced, and
then linked to its name, which fails if somebody made a file of that name meanwhile; with `force`,
and where a file system knows no links, it is renamed over it. Only a back-up is ever replaced. The
folder is synced after. A writer that is killed leaves a file called `.NAME.XXXX.part` and nothing
at NAME. The reader keeps its descriptor between the look at the whole file and the reading of its
entries, and checks each block again.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from io import BufferedReader
from threading import Lock
from typing import Final

import msgspec

from querycache.codec import backup_format as layout
from querycache.errors import BackupError
from querycache.ports.backup import (
    About,
    BackupReader,
    BackupWriter,
    Contents,
    Manifest,
    Saved,
)

MAX_FLAT: Final = 256 * 1024 * 1024
"""Bytes of a flat JSON file, which is read at once."""

_NO_LINKS: Final = frozenset((errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK))

_DIGEST: Final = 32
_READ_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
_MADE_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class DiskBackups:
    """The `BackupFiles` of a disk."""

    def create(self, path: str, about: About, *, force: bool = False) -> BackupWriter:
        with _said(path):
            return _Writer(path, about, force=force)

    def open(self, path: str) -> BackupReader:
        with _said(path):
            file = _opened(path)
            try:
                return _Reader(path, file)
            except BaseException:
                file.close()
                raise

    def flat(self, path: str) -> dict[str, object] | None:
        with _said(path), _opened(path) as file:
            start = file.read(len(layout.MAGIC))
            if start.lstrip()[:1] != b"{" and not start.isspace():
                return None
            data = start + file.read(MAX_FLAT)
            if len(data) > MAX_FLAT:
                raise BackupError(f"it is a JSON file of more than {MAX_FLAT} bytes")
            try:
                return msgspec.json.decode(data, type=dict[str, object])
            except (msgspec.DecodeError, RecursionError) as error:
                raise BackupError(f"it is no JSON object of keys and values: {error}") from error


class _Writer:
    """One file in the making."""

    def __init__(self, path: str, about: About, *, force: bool) -> None:
        folder, name = os.path.split(os.path.abspath(path))  # noqa: PTH100 -- follows no link
        self._path, self._about, self._force = path, about, force
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._name = name
        self._part = f".{name[:60]}.{secrets.token_hex(4)}.part"
        self._at: list[int] = []  # where each block of entries begins
        self._dropped: dict[int, bytes] = {}
        self._entries = self._bytes = 0
        self._done = False
        self._lock = Lock()
        try:
            self._refuse_what_is_there()
            handle = os.open(self._part, _MADE_FLAGS, 0o600, dir_fd=self._folder)
            self._file = os.fdopen(handle, "w+b", buffering=0)
        except BaseException:
            os.close(self._folder)
            raise
        self._digest = blake2b(digest_size=_DIGEST)
        self._size = 0
        try:
            self._append(layout.head())
            self._append(layout.frame(layout.ABOUT, about))
        except BaseException:
            self.abandon()
            raise

    @property
    def blocks(self) -> int:
        return len(self._at)

    def write(self, rows: Sequence[Saved]) -> None:
        with self._working():
            at = self._size
            self._append(layout.frame(layout.ENTRIES, rows))
            self._at.append(at)
            self._entries += len(rows)
            self._bytes += sum(len(row.data) for row in rows)

    def read(self, block: int) -> list[Saved]:
        with self._working():
            handle, at = self._file.fileno(), self._at[block]
            framed = layout.read_frame(os.pread(handle, layout.BLOCK_SIZE, at))
            data = os.pread(handle, framed.length, at + layout.BLOCK_SIZE)
            return layout.read_rows(layout.unframe(framed, data))

    def drop(self, block: int, places: Sequence[int]) -> None:
        rows = self.read(block)
        gone = layout.bits(places, len(rows))
        self._dropped[block] = gone
        left = layout.without(rows, gone)
        self._entries -= len(rows) - len(left)
        self._bytes -= sum(len(r.data) for r in rows) - sum(len(r.data) for r in left)

    def finish(self, contents: Contents) -> Manifest:
        with self._working():
            end = layout.End(
                blocks=self.blocks,
                entries=self._entries,
                weight=self._bytes,
                contents=contents,
                dropped=self._dropped,
                digest=self._digest.digest(),
            )
            self._append(layout.frame(layout.END, end))
            os.fsync(self._file.fileno())
            self._put_in_place()
            self._done = True
            try:
                os.fsync(self._folder)
            finally:
                self._close()
        return Manifest(self._about, self._entries, self._bytes, contents, self._size)

    def abandon(self) -> None:
        with self._lock:  # a thread that writes goes on to the end of its block
            if self._done:
                return
            self._done = True
            with suppress(OSError):
                os.unlink(self._part, dir_fd=self._folder)
            self._close()

    @contextmanager
    def _working(self) -> Generator[None]:
        with self._lock, _said(self._path):
            if self._done:
                raise BackupError("it was given up")
            yield

    def _append(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]
        self._digest.update(data)
        self._size += len(data)

    def _put_in_place(self) -> None:
        here = {"src_dir_fd": self._folder, "dst_dir_fd": self._folder}
        self._refuse_what_is_there()
        if self._force:
            os.replace(self._part, self._name, **here)  # noqa: PTH105 -- relative to a descriptor
            return
        try:
            os.link(self._part, self._name, follow_symlinks=False, **here)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            os.replace(self._part, self._name, **here)  # noqa: PTH105 -- relative to a descriptor
        else:
            os.unlink(self._part, dir_fd=self._folder)

    def _refuse_what_is_there(self) -> None:
        try:
            found = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISREG(found.st_mode):
            raise BackupError("it is no regular file", remedy="name another file")
        if not self._force:
            raise BackupError("it exists", remedy="name another file, or replace it with --force")
        if found.st_size and not self._is_backup():
            raise BackupError(
                "it is no backup, and nothing else is replaced", remedy="name another file"
            )

    def _is_backup(self) -> bool:
        """Whether what is there begins as a back-up of any version does."""
        handle = os.open(self._name, _READ_FLAGS, dir_fd=self._folder)
        try:
            return os.read(handle, len(layout.MAGIC)) == layout.MAGIC
        finally:
            os.close(handle)

    def _close(self) -> None:
        self._file.close()
        os.close(self._folder)


class _Reader:
    """A whole file, open."""

    def __init__(self, path: str, file: BufferedReader) -> None:
        self._path = path
        self._file = file
        layout.read_head(file.read(layout.HEAD_SIZE))
        digest = blake2b(layout.head(), digest_size=_DIGEST)
        about: About | None = None
        sizes: list[int] = []
        while True:
            framed, head, data = self._next()
            raw = layout.unframe(framed, data)
            if framed.kind == layout.END:
                break
            digest.update(head)
            digest.update(data)
            if (framed.kind == layout.ABOUT) != (about is None):
                raise BackupError("its blocks are out of order")
            if about is None:
                about = layout.read_about(raw)
                continue
            sizes.append(len(layout.read_rows(raw)))
        end = layout.read_end(raw)
        if about is None or file.read(1):
            raise BackupError(
                "it goes on after its end" if about else "it tells nothing of itself"
            )
        if end.digest != digest.digest() or end.blocks != len(sizes):
            raise BackupError("it is not what was written: the checksum of the whole differs")
        gone = sum(
            layout.count(end.dropped.get(block, b""), size) for block, size in enumerate(sizes)
        )
        if end.entries != sum(sizes) - gone:
            raise BackupError("it does not hold as many entries as it says")
        self._dropped = end.dropped
        self.manifest = Manifest(about, end.entries, end.weight, end.contents, file.tell())

    def rows(self) -> Iterator[list[Saved]]:
        with _said(self._path):
            self._file.seek(layout.HEAD_SIZE)
            block = 0
            while True:
                framed, _, data = self._next()
                if framed.kind == layout.END:
                    return
                raw = layout.unframe(framed, data)
                if framed.kind == layout.ENTRIES:
                    yield layout.without(layout.read_rows(raw), self._dropped.get(block, b""))
                    block += 1

    def close(self) -> None:
        self._file.close()

    def _next(self) -> tuple[layout.Framed, bytes, bytes]:
        head = self._file.read(layout.BLOCK_SIZE)
        framed = layout.read_frame(head)
        return framed, head, self._file.read(framed.length)


def _opened(path: str) -> BufferedReader:
    try:
        handle = os.open(path, _READ_FLAGS)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BackupError(
                "it is a symbolic link", remedy="name the file that it leads to"
            ) from error
        raise
    try:
        regular = stat.S_ISREG(os.fstat(handle).st_mode)
        file = os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise
    if not regular:
        file.close()
        raise BackupError("it is no regular file")
    return file


@contextmanager
def _said(path: str) -> Generator[None]:
    """Errors of the system, and of the layout, with the path that they are about."""
    try:
        yield
    except BackupError as error:
        text = str(error)
        named = text if text.startswith(f"{path}: ") else f"{path}: {text}"
        raise BackupError(named, remedy=error.remedy) from error
    except FileExistsError as error:
        raise BackupError(f"{path}: it exists", remedy="replace it with --force") from error
    except OSError as error:
        raise BackupError(f"{path}: {error.strerror or error}") from error
