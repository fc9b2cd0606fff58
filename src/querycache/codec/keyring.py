"""The keys of a process: where they come from, which one seals, and which ones open.

A key that is set (variable, file, command) comes before those of the store, which stay readable
beside it. What a key seals says the key's name, and keys are never tried in turn.
"""

from __future__ import annotations

import base64
import binascii
import shlex
import subprocess
from contextlib import suppress
from pathlib import Path

import msgspec

from querycache.clock import Clock
from querycache.codec.key_store import GENERATE, KEY_BYTES, Key, KeyStore, read_private
from querycache.errors import ConfigError

_COMMAND_S = 30.0


class Source(msgspec.Struct, frozen=True):
    """Where the settings say that keys are. `variable` is the base64 of a key, as `file` holds and
    `command` prints it; "" and None for what is not set. A key of the store is replaced when it is
    `replace_s` old; 0 for never.
    """

    variable: str
    file: Path | None
    command: str
    store: Path
    replace_s: float = 0.0

    def __repr__(self) -> str:
        return f"Source(file={self.file}, store={self.store})"


class Keyring:
    """The keys of one process: one that seals, and those that open. Safe under threads."""

    def __init__(self, source: Source, clock: Clock) -> None:
        """Reads them. Raises `ConfigError` where one can't be used; that there is none is told by
        `current`.
        """
        self.store = KeyStore(source.store, clock)
        self._given = _given(source)
        self._replace_s = source.replace_s
        self._keys: dict[str, Key] = {}
        self._current: Key | None = None
        self._generated = False
        self.reload()

    @property
    def current(self) -> Key:
        """The key that seals. Raises `ConfigError` where there is none."""
        if self._current is None:
            raise ConfigError(
                "encryption has no key: none is set, and the key store is empty"
                f" ({self.store.folder})",
                remedy=f"run: {GENERATE} (or set CACHE_ENCRYPTION_KEY, CACHE_ENCRYPTION_KEY_FILE"
                " or CACHE_ENCRYPTION_KEY_COMMAND)",
            )
        return self._current

    @property
    def empty(self) -> bool:
        """Whether there is no key to seal with."""
        return self._current is None

    @property
    def given(self) -> Key | None:
        """The key that a setting says, which comes before those of the store."""
        return self._given

    def get(self, key_id: str) -> Key | None:
        """A key that opens, by its id."""
        return self._keys.get(key_id)

    def find(self, key_id: str) -> Key | None:
        """The same, the store read anew where it is unknown."""
        if key_id not in self._keys:
            with suppress(ConfigError):  # what is known serves on
                self.reload()
        return self._keys.get(key_id)

    def all(self) -> tuple[Key, ...]:
        """All keys that open, the one that seals first."""
        rest = [key for key in self._keys.values() if key is not self._current]
        return (*([self._current] if self._current else []), *reversed(rest))

    def reload(self) -> None:
        """Reads the store anew. Raises `ConfigError`, and keeps what it has."""
        if self._given is None and self._replace_s:
            with suppress(ConfigError):  # an old key serves on where none can be kept
                self.store.replace_aged(self._replace_s)
        kept = self.store.load()
        given, revoked = self._given, self.store.revoked()
        if given is not None:
            if given.key_id in revoked:
                raise ConfigError(
                    f"{given.source}: key {given.key_id} was revoked",
                    remedy=f"set another: {GENERATE} --print",
                )
            if given.key_id in {key.key_id for key in kept}:
                kept = [key for key in kept if key.key_id != given.key_id]
        active = next((key for key in kept if key.state == "active"), None)
        if given is not None:
            kept.append(given)
        keys = {key.key_id: key for key in kept}
        if self._keys and not keys:
            raise ConfigError(
                f"the key store {self.store.folder} is empty, and was not",
                remedy="restore it from a copy: without its keys nothing that they sealed opens",
            )
        current = (active if self._generated else None) or given or active
        for key in kept:
            key.state = "active" if key is current else "decrypt"
        self._keys, self._current = keys, current

    def generate(self) -> Key:
        """A new key, kept in the store; it seals from now on. Where a setting says another, that
        one comes first again in other processes. Raises `ConfigError`.
        """
        self.store.generate()
        self._generated = True
        self.reload()
        return self.current


def _given(source: Source) -> Key | None:
    """The key that a setting says. Raises `ConfigError`."""
    if source.variable:
        return _read_key(source.variable, "CACHE_ENCRYPTION_KEY")
    if source.file is not None:
        name = "CACHE_ENCRYPTION_KEY_FILE"
        try:
            data = read_private(source.file)
        except FileNotFoundError:
            raise ConfigError(
                f"{name}={source.file}: there is no such file",
                remedy=f"run: {GENERATE} --print, and put what it prints there (mode 0600)",
            ) from None
        return _read_key(data.decode("ascii", "replace"), name)
    if source.command:
        return _read_key(_printed(source.command), "CACHE_ENCRYPTION_KEY_COMMAND")
    return None


def _printed(command: str) -> str:
    name = "CACHE_ENCRYPTION_KEY_COMMAND"
    try:
        done = subprocess.run(  # noqa: S603 -- the operator's own command, without a shell
            shlex.split(command), capture_output=True, timeout=_COMMAND_S, check=False
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        what = type(error).__name__  # its text may hold the command
        raise ConfigError(
            f"{name}: the command did not run ({what})", remedy="try it in a shell"
        ) from None
    if done.returncode:
        raise ConfigError(
            f"{name}: the command ended with status {done.returncode}", remedy="try it in a shell"
        )
    return done.stdout.decode("ascii", "replace")


def _read_key(text: str, name: str) -> Key:
    try:
        return Key(base64.b64decode(text.strip(), validate=True), state="active", source=name)
    except (ValueError, binascii.Error) as error:
        told = f" ({error})" if "key" in str(error) else ""
        raise ConfigError(
            f"{name}: what it says (not shown) is no key{told}; allowed: the base64 form of"
            f" exactly {KEY_BYTES} bytes",
            remedy=f"run: {GENERATE} --print",
        ) from None
