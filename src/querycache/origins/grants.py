"""Grants in one file, readable by its owner only, that all processes of a user share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from querycache.errors import NotAvailableError
from querycache.origins.index_locks import held
from querycache.ports.access import Granted, Right

_MOST_BYTES = 16 * 1024 * 1024


class GrantFile:
    """A `GrantStore`. The file is replaced as a whole, under a lock."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Granted:
        """What is granted; nothing where there is no file."""
        try:
            handle = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(handle, "rb") as file:
                data = file.read(_MOST_BYTES)
            return msgspec.json.decode(data, type=dict[str, dict[str, tuple[Right, ...]]])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise NotAvailableError(
                f"the grants in {self._path} can't be read: {error}",
                remedy="mend the file, or remove it and grant anew",
            ) from error

    def update(self, change: Callable[[Granted], Granted]) -> None:
        """Replaces what is granted by what `change` makes of it."""
        part = self._path.with_suffix(f".{os.getpid()}")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with held(str(self._path.with_suffix(".lock"))):
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
                data = msgspec.json.encode(change(self.read()))
                with os.fdopen(os.open(part, flags, 0o600), "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(self._path)
        except OSError as error:
            raise NotAvailableError(
                f"the grants in {self._path} can't be written: {error.strerror}",
                remedy="free the disk, or make the folder yours",
            ) from error
