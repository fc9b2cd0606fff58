"""Backups: entries on their way into a file and out of it, and the store they are read from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Protocol

import msgspec

from querycache.ports.tiers import Read
from querycache.values import Stamp


class Dumped(msgspec.Struct, frozen=True, gc=False):
    """An entry as a store holds it: `data` is its envelope, `expires_at` in wall seconds, `guard`
    as in `tiers.Read`.
    """

    key: str
    data: bytes
    expires_at: float
    guard: int


class Source(Protocol):
    """A store that is read without being used: what it evicts first stays the same, as far as it
    can tell. Raises `errors.TierError`, and only that.
    """

    def dump(self, prefix: str) -> AsyncIterator[Sequence[Dumped]]:
        """Every live entry whose name begins with `prefix`, in batches of a few megabytes at most
        (or one entry); not a snapshot, and now and then one twice.
        """
        ...

    async def peek(self, keys: Sequence[str]) -> list[Read]:
        """What it has for each."""
        ...


class Saved(msgspec.Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """An entry in a file: its name (UTF-8, lone surrogates passed), its envelope, and its hard
    expiry in wall seconds.
    """

    name: bytes
    data: bytes
    expires_at: float


class About(msgspec.Struct, frozen=True):
    """Where a backup comes from. `made_at` in wall seconds; `store` is the stamp of a counter that
    nobody moves: the same stamp says that it is the same store still. `project` is "" for all.
    """

    made_at: float
    prefix: str
    backend: str
    program: str
    store: Stamp
    project: str = ""


class Contents(msgspec.Struct, frozen=True):
    """What is told at the end of a file: entries by kind, and by their names the `tiers.Secrets`
    that sealed entries need beside their key.
    """

    kinds: Mapping[str, int]
    secrets: Mapping[str, bytes] = {}


class Manifest(msgspec.Struct, frozen=True):
    """What a file holds: entries, the bytes of their envelopes, and the bytes of the file."""

    about: About
    entries: int
    bytes: int
    contents: Contents
    file_bytes: int


class BackupWriter(Protocol):
    """A backup in the making: nothing is at its path before `finish`. Blocking; raises
    `errors.BackupError`.
    """

    @property
    def blocks(self) -> int:
        """How many were written so far."""
        ...

    def write(self, rows: Sequence[Saved]) -> None:
        """Adds a block."""
        ...

    def read(self, block: int) -> list[Saved]:
        """A block that was written, numbered from 0."""
        ...

    def drop(self, block: int, places: Sequence[int]) -> None:
        """Leaves entries of a block out again."""
        ...

    def finish(self, contents: Contents) -> Manifest:
        """Puts the file in its place, once the disk has it."""
        ...

    def abandon(self) -> None:
        """Removes what was written. Nothing happens after `finish`."""
        ...


class BackupReader(Protocol):
    """A backup that was read to its end and found whole. Blocking; raises `errors.BackupError`."""

    manifest: Manifest

    def rows(self) -> Iterator[list[Saved]]:
        """Its entries, a block at a time, checked once more."""
        ...

    def close(self) -> None: ...


class BackupFiles(Protocol):
    """Makes and opens backups."""

    def create(self, path: str, about: About, *, force: bool = False) -> BackupWriter:
        """Begins one beside its place, for its owner alone. With `force` it replaces what is at
        `path`. Raises `BackupError`.
        """
        ...

    def open(self, path: str) -> BackupReader:
        """Opens one after reading it to its end. Raises `BackupError` for a file that is damaged,
        cut short, or of another kind.
        """
        ...

    def flat(self, path: str) -> dict[str, object] | None:
        """What a file holds that is one JSON object of keys and values; None for any other.
        Raises `BackupError` where it can't be read.
        """
        ...
