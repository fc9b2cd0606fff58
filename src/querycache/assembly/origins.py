"""Where a process keeps things, and the slow truths it caches in front of: files, parser, model,
indexes. Each is made when first used.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from querycache.clock import Clock, SystemClock
from querycache.config import Config, check
from querycache.errors import NotAvailableError
from querycache.ports.origins import Embedder, ProjectFiles

if TYPE_CHECKING:
    from querycache.origins.index_qdrant import Qdrant
    from querycache.ports.origins import Indexes, Parser


class Origins:
    """The slow truths of one process, and where it keeps them."""

    def __init__(
        self, config: Config, *, door: str = "python", clock: Clock | None = None
    ) -> None:
        """Raises `ConfigError` for settings that this build can't serve."""
        check(config)
        self.config = config
        self.clock: Clock = clock or SystemClock()
        self.door = door
        self.started_at = self.clock.wall()
        self._files: dict[str, ProjectFiles] = {}

    @cached_property
    def home(self) -> Path:
        """Where stores and indexes are; made for its owner alone."""
        with suppress(OSError):  # who writes there says what is wrong
            self.config.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.config.home

    @property
    def usable_home(self) -> Path:
        """The home, for what can't be done without. Raises `NotAvailableError`."""
        home = self.home
        if not (home.is_dir() and os.access(home, os.R_OK | os.W_OK | os.X_OK)):
            raise NotAvailableError(
                f"indexes can't be kept in {home}: it is no folder that can be written to",
                remedy="set QUERYCACHE_HOME to a folder of yours",
            )
        return home

    @cached_property
    def indexes(self) -> Indexes:
        from querycache.origins.indexes import SqliteIndexes

        folder = str(self.usable_home / "projects")
        weight = 0.4 if self.config.embedder.provider == "local" else 0.7
        shared = self.qdrant and self.qdrant.vectors
        return SqliteIndexes(folder, semantic_weight=weight, shared=shared)

    @cached_property
    def qdrant(self) -> Qdrant | None:
        """The team's vectors, where the settings ask for them. Raises `NotAvailableError`."""
        settings = self.config.vector_store
        if settings.kind == "sqlite":
            return None
        from querycache.origins.index_qdrant import open_qdrant

        key = settings.api_key.reveal()
        return open_qdrant(settings.url, key, settings.prefix, self.clock)

    @cached_property
    def parser(self) -> Parser:
        from querycache.origins.parser import TreeSitterParser

        return TreeSitterParser()

    @cached_property
    def embedder(self) -> Embedder:
        settings = self.config.embedder
        if settings.provider == "local":
            from querycache.origins.embedder_local import LocalEmbedder

            return LocalEmbedder()
        if settings.provider == "minilm":
            from querycache.origins.embedder_minilm import MiniLMEmbedder

            return MiniLMEmbedder(self.models_folder)
        from querycache.origins.embedder_remote import RemoteEmbedder, RemoteSettings

        wanted = RemoteSettings(
            dialect=settings.provider,
            url=settings.url,
            model=settings.model,
            api_key=settings.api_key.reveal(),
            dimensions=settings.dimensions,
            batch=settings.batch,
            timeout_s=settings.timeout_s,
        )
        return RemoteEmbedder(wanted, self.clock)

    @property
    def models_folder(self) -> Path:
        """Where installed models are: they are no cache, so beside the keys."""
        return self.config.data_home / "models"

    def files_of(self, root: str) -> ProjectFiles:
        """The files under a root; one object a root, which remembers its last look."""
        if root not in self._files:
            from querycache.origins.project import LocalProjectFiles

            limit = self.config.index.max_file_bytes
            self._files[root] = LocalProjectFiles(root, max_file_bytes=limit, clock=self.clock)
        return self._files[root]
