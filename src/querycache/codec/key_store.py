"""Keys that seal, and the store of generated ones.

Design note. A key is 32 random bytes, and is named by a digest of itself: a wrong key under a
known name can't be loaded. One key of a store is active and seals, older ones only open, of
revoked ones the name is kept. The store is one file, written anew and renamed into place under a
lock, so that a reader sees all of it or all of what was there before.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import secrets
import shlex
import stat
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, NoReturn, TypeAlias

import msgspec

from querycache.clock import Clock
from querycache.errors import ConfigError

KEY_BYTES = 32
ID_BYTES = 4
GENERATE = "querycache key generate"

State: TypeAlias = Literal["active", "decrypt", "revoked"]

_MOST_BYTES = 1024 * 1024


class Key:
    """32 bytes that seal, and what may be shown of them.

    Attributes:
        key_id: 8 hex digits: the name that what it seals says.
        fingerprint: A longer digest, to compare two machines by.
        state: active, decrypt or revoked.
        created_at: Wall seconds; 0 where nobody knows.
        source: The variable or the folder that it comes from.
    """

    __slots__ = ("_bytes", "created_at", "fingerprint", "key_id", "source", "state")

    def __init__(self, key: bytes, *, state: State, source: str, created_at: float = 0.0) -> None:
        """Raises `ValueError` for what is no key of 32 bytes, or one that anybody would guess."""
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes")
        if len(set(key)) == 1:
            raise ValueError("all bytes of the key are equal")
        self._bytes = key
        self.key_id = _digest(b"querycache key id", key)[:ID_BYTES].hex()
        digest = _digest(b"querycache key fingerprint", key)
        self.fingerprint = f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"
        self.state: State = state
        self.source = source
        self.created_at = created_at

    def reveal(self) -> bytes:
        """The key itself; for whoever seals with it."""
        return self._bytes

    def __repr__(self) -> str:
        return f"<Key {self.key_id} {self.state}>"

    def __reduce__(self) -> NoReturn:
        message = "a key is not serialised"
        raise TypeError(message)


class _Row(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    key_id: str
    state: State
    created_at: float
    key: bytes = b""


class _Stored(msgspec.Struct, frozen=True):
    version: int
    keys: tuple[_Row, ...]


class KeyStore:
    """Generated keys in `keys.json` in a folder of their own, for their owner alone."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder = folder
        self.path = folder / "keys.json"
        self._clock = clock

    def load(self) -> list[Key]:
        """All keys but revoked ones, in the order in which they were made. Raises
        `ConfigError`.
        """
        return [self._key(row) for row in self._rows() if row.state != "revoked"]

    def revoked(self) -> tuple[str, ...]:
        """The ids of keys that were revoked. Raises `ConfigError`."""
        return tuple(row.key_id for row in self._rows() if row.state == "revoked")

    def generate(self) -> Key:
        """A new key, kept, and active from now on; the others go on opening what they sealed.
        Raises `ConfigError`.
        """
        with self._locked():
            return self._add(self._rows())

    def replace_aged(self, age_s: float) -> None:
        """Makes a new key where the active one is older than that. Raises `ConfigError`."""
        if self._aged(self._rows(), age_s):
            with self._locked():
                if self._aged(rows := self._rows(), age_s):  # no other process did meanwhile
                    self._add(rows)

    def _aged(self, rows: Sequence[_Row], age_s: float) -> bool:
        made = next((row.created_at for row in rows if row.state == "active"), None)
        return made is not None and made + age_s <= self._clock.wall()

    def _add(self, rows: Sequence[_Row]) -> Key:
        key = Key(
            secrets.token_bytes(KEY_BYTES),
            state="active",
            source=str(self.folder),
            created_at=self._clock.wall(),
        )
        older = [
            msgspec.structs.replace(row, state="decrypt") if row.state == "active" else row
            for row in rows
        ]
        self._write([*older, _Row(key.key_id, "active", key.created_at, key.reveal())])
        return key

    def revoke(self, key_id: str) -> bool:
        """Destroys a key that only opens: what it sealed can't be read any more. False where there
        is no such key. Raises `ConfigError` for the active one.
        """
        with self._locked():
            rows = self._rows()
            found = next((row for row in rows if row.key_id == key_id and row.key), None)
            if found is None:
                return False
            if found.state == "active":
                raise ConfigError(
                    f"key {key_id} is the one that seals", remedy=f"make another first: {GENERATE}"
                )
            gone = _Row(key_id, "revoked", found.created_at)
            self._write([gone if row is found else row for row in rows])
            return True

    def _key(self, row: _Row) -> Key:
        try:
            key = Key(row.key, state=row.state, source=str(self.folder), created_at=row.created_at)
        except ValueError as error:
            raise self._damaged(str(error)) from None
        if key.key_id != row.key_id:
            raise self._damaged(f"key {row.key_id} is another")
        return key

    def _rows(self) -> list[_Row]:
        try:
            data = read_private(self.path)
        except FileNotFoundError:
            return []
        try:
            stored = msgspec.json.decode(data, type=_Stored)
        except msgspec.DecodeError as error:
            raise self._damaged(str(error)) from None
        rows = list(stored.keys)
        if stored.version != 1 or len({row.key_id for row in rows}) != len(rows):
            raise self._damaged("two keys of one id, or a later version")
        return rows

    def _damaged(self, why: str) -> ConfigError:
        return ConfigError(
            f"{self.path} is no key store: {why}",
            remedy=f"restore it from a copy, or move it away and run: {GENERATE}",
        )

    def _write(self, rows: Sequence[_Row]) -> None:
        fresh = self.path.with_suffix(f".{os.getpid()}.new")
        try:
            with suppress(FileNotFoundError):
                fresh.unlink()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(fresh, flags, 0o600), "wb") as file:
                file.write(msgspec.json.encode(_Stored(1, tuple(rows))))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)
            _sync(self.folder)
        except OSError as error:
            raise self._unusable(error) from error

    @contextmanager
    def _locked(self) -> Generator[None]:
        try:
            self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            status = self.folder.stat()
            if status.st_uid != os.geteuid():
                raise ConfigError(
                    f"the key store {self.folder} belongs to another user",
                    remedy="set ENCRYPTION_KEY_STORE_PATH to a folder of yours",
                )
            if status.st_mode & 0o077:
                self.folder.chmod(0o700)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self.folder / "lock", flags, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _unusable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"keys can't be kept in {self.folder}: {error.strerror}",
            remedy="set ENCRYPTION_KEY_STORE_PATH to a folder of yours",
        )


def read_private(path: Path) -> bytes:
    """What a file of this user alone holds. Raises `ConfigError`, which says what to run;
    `FileNotFoundError`.
    """
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise
    except OSError as error:
        why = "it is a symbolic link" if path.is_symlink() else error.strerror
        raise ConfigError(
            f"{path} can't be read: {why}", remedy="name a regular file that you own"
        ) from error
    try:
        _judge(path, os.fstat(descriptor))
        return os.read(descriptor, _MOST_BYTES)
    finally:
        os.close(descriptor)


def _judge(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path} is no regular file", remedy="name a regular file")
    if status.st_uid not in {os.geteuid(), 0}:
        raise ConfigError(
            f"{path} belongs to another user", remedy=f"run: chown $(id -un) {quoted(path)}"
        )
    if status.st_mode & 0o077:
        raise ConfigError(
            f"{path} can be read by others (mode {stat.S_IMODE(status.st_mode):04o})",
            remedy=f"run: chmod 600 {quoted(path)}",
        )


def quoted(path: Path) -> str:
    """A path as a shell takes it."""
    return shlex.quote(str(path))


def _digest(label: bytes, key: bytes) -> bytes:
    return hashlib.sha256(label + b"\0" + key).digest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
