"""The embedding models that the settings can name, and how one that is installed gets here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from querycache.config import Config
from querycache.errors import UsageError

Progress = Callable[[int, int, str], None]
"""Told before each step: its number, how many there are, what it does."""


class Model(NamedTuple):
    """A model. `installed`: it can be used without a download; `where` it comes from."""

    name: str
    used: bool
    installed: bool
    where: str


class Installed(NamedTuple):
    """A model's files: the folder, and their size in bytes."""

    where: str
    size_bytes: int


def models(config: Config, folder: Path) -> list[Model]:
    """All models; `folder` holds what was installed."""
    from querycache.origins.embedder_minilm import MODEL_FILE, TOKENIZER_FILE

    used = config.embedder.provider
    there = all((folder / name).is_file() for name in (MODEL_FILE, TOKENIZER_FILE))
    found = [
        Model("local", used == "local", installed=True, where="built in"),
        Model("minilm", used == "minilm", installed=there, where=str(folder)),
    ]
    if used not in {"local", "minilm"}:
        address = config.embedder.url or "its default address"
        name = f"{used}: {config.embedder.model}"
        found.append(Model(name, used=True, installed=True, where=address))
    return found


def install_model(name: str, folder: Path, progress: Progress) -> Installed:
    """Downloads and converts a model. Blocking, for minutes. Raises `EmbedderError`."""
    if name != "minilm":
        raise UsageError(f"no model {name!r} can be installed", remedy="install minilm")
    from querycache.origins import minilm_install

    done = minilm_install.install(
        folder, progress=lambda step, what: progress(step, minilm_install.STEPS, what)
    )
    return Installed(str(done.folder), done.size)
