"""All indexes of this machine: a folder each, named after its project.

    <folder>/<project>/index.sqlite     the index, with its -wal and -shm
    <folder>/.locks/<project>.<purpose> who may index or watch; stays when a project is forgotten
    <folder>/.locks/.guard              shared while files are opened, exclusive to rename folders
    <folder>/.damaged-<project>         the last index of that name that was found unsound

Folders are readable by their owner only. A folder leaves by being renamed, so no process ever sees
half of one.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Literal

import msgspec

from querycache.errors import ProjectNotFoundError, UsageError
from querycache.keys import digest, encode
from querycache.origins import index_content as content
from querycache.origins.index import SqliteIndex
from querycache.origins.index_content import Meta, read_meta
from querycache.origins.index_locks import FileLock, held, try_take
from querycache.origins.index_shared import VectorStore
from querycache.origins.index_store import DamagedError, Store, create

_LONGEST = 200
"""Characters of a folder's name; file systems allow 255 bytes."""


class SqliteIndexes:
    """`Indexes` under one folder, which is made when first written to.

    `semantic_weight` is the vote of the semantic arm where the keyword arm has 1. `shared` gives
    the vectors that a team shares, by model, dimensions and project.
    """

    def __init__(
        self,
        folder: str,
        *,
        semantic_weight: float = 0.4,
        shared: Callable[[str, int, str], VectorStore] | None = None,
    ) -> None:
        self._folder = Path(folder).absolute()
        self._semantic_weight = semantic_weight
        self._shared = shared

    def names(self) -> list[str]:
        """Sorted."""
        return sorted(name for name, _ in self._each())

    def find(self, root: str) -> str | None:
        real = os.path.realpath(root)
        return next((name for name, meta_root in self._each() if meta_root == real), None)

    def open(
        self,
        name: str,
        *,
        root: str = "",
        versions: str = "",
        model: str = "",
        dimensions: int = 0,
    ) -> SqliteIndex:
        """A new handle, with connections and memory of its own: keep it. A `root` other than the
        index has becomes its root (the project was moved).
        """
        real = os.path.realpath(root) if root else ""
        wanted = Meta(
            name=name,
            root=real,
            versions=versions,
            model=model or versions,
            dimensions=dimensions,
            birth=secrets.token_bytes(16),
            content_sum=0,
            change=0,
            files=0,
            chunks=0,
            indexed_at=0.0,
        )
        while True:
            if root:
                self._create(wanted)
            store = Store(str(self._file(name)), self._guard)
            try:
                opened = _adopt(store, wanted)
            except DamagedError as error:
                store.close()
                self._set_aside(name, error.inode)
            except ProjectNotFoundError:
                store.close()
                if not root:
                    raise ProjectNotFoundError(
                        f"no project {name!r} is indexed", remedy="index it first"
                    ) from None
            except BaseException:
                store.close()
                raise
            else:
                break
        return SqliteIndex(
            store,
            opened,
            semantic_weight=self._semantic_weight,
            set_aside=lambda inode: self._set_aside(name, inode),
            shared=self._shared and self._shared(opened.model, opened.dimensions, name),
        )

    def try_lock(self, name: str, purpose: Literal["index", "watch"]) -> FileLock | None:
        self._make_folders()
        return try_take(str(self._folder / ".locks" / f"{_segment(name)}.{purpose}"))

    def forget(self, name: str) -> bool:
        """False where there was nothing to drop."""
        if not self._folder.is_dir():
            return False
        self._make_folders()
        segment = _segment(name)
        gone = f".gone-{secrets.token_hex(8)}"
        with held(self._guard_file()):
            existed = self._file(name).exists()
            with suppress(FileNotFoundError):
                (self._folder / segment).rename(self._folder / gone)
            with suppress(FileNotFoundError):
                (self._folder / f".damaged-{segment}").rename(self._folder / f"{gone}-damaged")
        for leftover in self._folder.glob(".gone-*"):  # those of killed processes too
            shutil.rmtree(leftover, ignore_errors=True)
        return existed

    def _each(self) -> Iterator[tuple[str, str]]:
        """(name, root) of every sound index."""
        for file in sorted(self._folder.glob("*/index.sqlite")):
            if file.parent.name.startswith("."):
                continue
            store = Store(str(file), self._guard)
            try:
                with store.reading() as session:
                    meta = read_meta(session)
            except (DamagedError, ProjectNotFoundError):
                continue
            finally:
                store.close()
            yield meta.name, meta.root

    def _create(self, meta: Meta) -> None:
        """Does nothing where there is one."""
        file = self._file(meta.name)
        if file.exists():
            return
        self._make_folders()
        new = file.with_name(".new.sqlite")
        with held(self._guard_file()):
            file.parent.mkdir(0o700, exist_ok=True)
            for leftover in file.parent.glob(".new.*"):  # of a process that was killed here
                leftover.unlink()
            if not file.exists():
                create(str(new), lambda session: content.write_meta(session, meta))
                new.rename(file)

    def _set_aside(self, name: str, inode: int) -> None:
        """Renames the folder of a damaged file, if that file still has the name."""
        file = self._file(name)
        damaged = self._folder / f".damaged-{file.parent.name}"
        with held(self._guard_file()), suppress(FileNotFoundError):
            if file.stat().st_ino == inode:
                shutil.rmtree(damaged, ignore_errors=True)
                file.parent.rename(damaged)

    def _guard(self) -> AbstractContextManager[None]:
        return held(self._guard_file(), shared=True)

    def _guard_file(self) -> str:
        return str(self._folder / ".locks" / ".guard")

    def _make_folders(self) -> None:
        self._folder.mkdir(0o700, parents=True, exist_ok=True)
        (self._folder / ".locks").mkdir(0o700, exist_ok=True)

    def _file(self, name: str) -> Path:
        return self._folder / _segment(name) / "index.sqlite"


def _adopt(store: Store, wanted: Meta) -> Meta:
    """Makes an index one of the wanted root and versions, where any are."""
    with store.reading() as session:
        meta = _named(read_meta(session), wanted)
        if _fitted(meta, wanted) == meta:
            return meta
    with store.writing() as session:
        meta = _named(read_meta(session), wanted)
        fitted = _fitted(meta, wanted)
        if fitted.change != meta.change:
            content.empty(session)
        if fitted != meta:
            content.write_meta(session, fitted)
        return fitted


def _fitted(meta: Meta, wanted: Meta) -> Meta:
    if wanted.root and wanted.root != meta.root:
        meta = msgspec.structs.replace(meta, root=wanted.root)
    if not wanted.versions or wanted.versions == meta.versions:
        return meta
    return msgspec.structs.replace(
        meta,
        versions=wanted.versions,
        model=wanted.model,
        dimensions=wanted.dimensions,
        content_sum=0,
        change=meta.change + 1,
        files=0,
        chunks=0,
        indexed_at=0.0,
    )


def _named(meta: Meta, wanted: Meta) -> Meta:
    if meta.name != wanted.name:  # a file system that takes upper case for lower case
        raise UsageError(f"{wanted.name!r} can't be told from the project {meta.name!r}")
    return meta


def _segment(name: str) -> str:
    """A project's folder: never hidden, never a path, never too long."""
    if not name:
        raise UsageError("a project needs a name")
    coded = encode(name)
    if coded[0] == ".":
        coded = f"%2E{coded[1:]}"
    return coded if len(coded) <= _LONGEST else f"~{digest(name)}"
