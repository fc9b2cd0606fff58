"""The last good settings: `.env` and `docker-compose.cache.yml`, kept beside themselves as
`.env.backup` and `docker-compose.cache.yml.backup`, and put back.

What is replaced stays as `.replaced`. Each file is replaced whole, one after the other: whoever is
stopped in between does it again. Copies are for their owner alone, since `.env` may hold secrets;
what the environment says is not in them.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from querycache.config.loading import check, load_config
from querycache.errors import ConfigError

ENV, COMPOSE = ".env", "docker-compose.cache.yml"
_FILES: Final = (ENV, COMPOSE)
_MOST: Final = 1024 * 1024  # bytes of one
_FLAGS: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Kept(NamedTuple):
    """What was copied; the names of the variables that come from the environment, and so are in no
    copy.
    """

    files: tuple[str, ...]
    elsewhere: tuple[str, ...]


class RolledBack(NamedTuple):
    """The files that were put back, and those that were the same already."""

    restored: tuple[str, ...]
    unchanged: tuple[str, ...]


def save(folder: Path, environ: Mapping[str, str] | None = None) -> Kept:
    """Keeps the settings of `folder` as the last good ones. Raises `ConfigError` where they are
    not good, or there are none to keep.
    """
    loaded = load_config(environ, folder)
    check(loaded.config)
    found = {name: data for name in _FILES if (data := _read(folder / name)) is not None}
    if not found:
        raise ConfigError(
            f"{folder} holds neither {ENV} nor {COMPOSE}: there is nothing to keep",
            remedy="run it where they are",
        )
    for name, data in found.items():
        _replace(folder / f"{name}.backup", data)
    elsewhere = (name for name, source in loaded.sources.items() if source == "environment")
    return Kept(tuple(found), tuple(sorted(elsewhere)))


def roll_back(folder: Path, environ: Mapping[str, str] | None = None) -> RolledBack:
    """Puts the last good settings of `folder` back. Raises `ConfigError`, and changes nothing,
    where one was not kept or is not good any more.
    """
    kept = {name: _read(folder / f"{name}.backup") for name in _FILES}
    now = {name: _read(folder / name) for name in _FILES}
    wanted = {name: data for name, data in kept.items() if data is not None}
    missing = [name for name in _FILES if name not in wanted and now[name] is not None]
    if missing or not wanted:
        names = " and ".join(f"{name}.backup" for name in missing or _FILES)
        raise ConfigError(
            f"{folder}: {names} is missing: nothing was changed",
            remedy="keep a set that works with: querycache config save",
        )
    _judge(wanted, folder, environ)
    changed = [name for name, data in wanted.items() if now[name] != data]
    for name in changed:
        if (replaced := now[name]) is not None:
            _replace(folder / f"{name}.replaced", replaced)
    for name in changed:
        _replace(folder / name, wanted[name])
    return RolledBack(tuple(changed), tuple(name for name in wanted if name not in changed))


def _judge(wanted: Mapping[str, bytes], folder: Path, environ: Mapping[str, str] | None) -> None:
    """Whether a copy is fit to run with, in its folder: paths in it begin there."""
    try:
        check(load_config(environ, folder, f"{ENV}.backup").config)
    except ConfigError as error:
        raise ConfigError(
            f"{ENV}.backup is not good: {error}; nothing was changed", remedy=error.remedy
        ) from error
    compose = wanted.get(COMPOSE, b"services:")
    lines = compose.decode("utf-8", "replace").splitlines()
    if not any(line.startswith("services:") for line in lines):
        raise ConfigError(
            f"{COMPOSE}.backup names no services: nothing was changed",
            remedy="take the file from version control",
        )


def _read(path: Path) -> bytes | None:
    """A regular file's content; None where there is nothing."""
    try:
        handle = os.open(path, os.O_RDONLY | _FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from error
    with os.fdopen(handle, "rb") as file, _told(path):
        data = file.read(_MOST + 1)
    if len(data) > _MOST:
        raise ConfigError(f"{path} is larger than {_MOST} bytes")
    return data


def _replace(path: Path, data: bytes) -> None:
    """Puts a file in its place whole, for its owner alone."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    with _told(path):
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def _told(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
