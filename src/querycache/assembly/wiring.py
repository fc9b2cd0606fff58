"""Config in, parts out: the one place that names concrete parts.

Each is made when first used, so that a command that needs no model loads none.
"""

from __future__ import annotations

import os
import random
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from querycache.cache.catalogue.embeddings import embeddings
from querycache.cache.catalogue.file_parses import file_parses
from querycache.cache.catalogue.project_context import project_context
from querycache.cache.parts import Parts
from querycache.cache.policy import Policy
from querycache.cache.two_tier import TwoTier
from querycache.clock import Clock, SystemClock
from querycache.codec.pipeline import Pipeline
from querycache.config import Config, check
from querycache.errors import NotAvailableError, TierError
from querycache.events import Evicted, TierFailed
from querycache.keys import Namer, Scope
from querycache.observe.event_log import Both, EventLog
from querycache.observe.query_log import QueryLog
from querycache.observe.registry import Registry
from querycache.observe.ring import EventRing, concerning, events_from
from querycache.ports.codec import Shape
from querycache.ports.origins import Embedder, ProjectFiles
from querycache.ports.tiers import L1, L2, Backplane
from querycache.tiers.backplane import LocalBackplane
from querycache.tiers.memory import MemoryTier, weigh
from querycache.tiers.null import AbsentTier, NullTier
from querycache.usecases.check_coherency import CheckCoherency
from querycache.usecases.chunk_text import CHUNK_TEXT, embedded_text
from querycache.usecases.embed_texts import EmbedTexts
from querycache.usecases.explain_key import ExplainKey, Told
from querycache.usecases.find_project import FindProject
from querycache.usecases.index_project import IndexProject, Model
from querycache.usecases.invalidate import Invalidate
from querycache.usecases.list_keys import ListKeys
from querycache.usecases.list_projects import ListProjects
from querycache.usecases.remember import Remember
from querycache.usecases.search_code import SearchCode
from querycache.usecases.show_status import ShowStatus
from querycache.usecases.warm_up import WarmUp
from querycache.usecases.watch_files import WatchFiles
from querycache.values import Kind

if TYPE_CHECKING:
    from querycache.ports.origins import Indexes, Parser

_EVENTS_KEPT = 4000
_QUERY_LEASE_S = 2.0


class Wiring:
    """The parts of one process."""

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

    # --- the cache -----------------------------------------------------------------------------

    @cached_property
    def namer(self) -> Namer:
        return Namer(self.config.core.key_prefix, self.config.core.max_key_length)

    @cached_property
    def ring(self) -> EventRing:
        return EventRing(_EVENTS_KEPT, self.clock)

    @cached_property
    def _observer(self) -> Both:
        operations = self.config.watch.log_operations
        return Both(self.ring, EventLog(self.clock, self.namer, operations=operations))

    @cached_property
    def _shared(self) -> tuple[L2, Backplane]:
        if self.config.l2_backend == "none":
            return NullTier(self.clock), LocalBackplane()
        from querycache.tiers.sqlite import open_sqlite

        try:
            return open_sqlite(
                str(self.home / "l2"),
                clock=self.clock,
                max_bytes=self.config.l2.sqlite_max_mb * 1024 * 1024,
                deadline_s=self.config.l2.deadline_ms / 1000,
            )
        except TierError as error:  # callers go on without it; health says so
            self._observer.emit(TierFailed("", "sqlite", "open", str(error)))
            return AbsentTier("sqlite", error, self.clock), LocalBackplane(deaf=True)

    @cached_property
    def l1(self) -> L1:
        return MemoryTier(
            max_entries=self.config.l1.max_size,
            max_bytes=self.config.l1.max_memory_mb * 1024 * 1024,
            policy=self.config.l1.eviction_policy,
            on_evict=lambda entry: self._observer.emit(Evicted(entry.key, entry.weight)),
        )

    @cached_property
    def core(self) -> TwoTier:
        l2, backplane = self._shared
        compression = self.config.compression
        codec = Pipeline(
            compression=compression.algorithm if compression.enabled else "none",
            threshold=compression.threshold_bytes,
        )
        draw = random.random  # jitter, no secret
        parts = Parts(self.l1, l2, backplane, codec, self.clock, self._observer, weigh, draw)
        return TwoTier(parts)

    @cached_property
    def policies(self) -> Mapping[Kind, Policy]:
        """The rules of each kind, from the settings."""
        return {kind: self._policy(kind) for kind in Kind}

    def _policy(self, kind: Kind) -> Policy:
        settings = self.config.kinds[kind]
        used = self.config.core.enabled and settings.enabled
        timeout = self.config.core.loader_timeout_s
        return Policy(
            kind=kind,
            ttl=settings.ttl_s,
            hard_timeout=timeout or None,
            lease=_QUERY_LEASE_S,
            shape=Shape(compress=settings.compression),
            l1=used and self.config.l1_used,
            l2=used and self.config.l2_backend != "none",
            l1_ttl=self.config.l1.ttl_s,
        )

    @cached_property
    def remember(self) -> Remember:
        return Remember(self.core, self.namer, self.policies, self.config.core.batch_size)

    # --- the origins ---------------------------------------------------------------------------

    @cached_property
    def indexes(self) -> Indexes:
        from querycache.origins.indexes import SqliteIndexes

        folder = str(self.usable_home / "projects")
        weight = 0.4 if self.config.embedder.provider == "local" else 0.7
        return SqliteIndexes(folder, semantic_weight=weight)

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

    # --- the use cases -------------------------------------------------------------------------

    @cached_property
    def embed(self) -> EmbedTexts:
        policy = self.policies[Kind.EMBEDDING]
        if self.config.embedder.provider == "local":  # 40 us a query: a lease costs more
            policy = msgspec.structs.replace(policy, lease=0.0)
        cache = embeddings(self.core, self.namer, policy, Scope())
        return EmbedTexts(self.embedder, cache, self.config.core.batch_size)

    @cached_property
    def find_project(self) -> FindProject:
        return FindProject(self.indexes)

    @cached_property
    def index_project(self) -> IndexProject:
        parses = file_parses(self.core, self.namer, self.policies[Kind.FILE], Scope())
        return IndexProject(
            indexes=self.indexes,
            files_of=self.files_of,
            parser=self.parser,
            parses=parses,
            model=self.model,
            text_of=embedded_text,
            text_version=CHUNK_TEXT,
            clock=self.clock,
        )

    @cached_property
    def search_code(self) -> SearchCode:
        return SearchCode(self.embed.query, self.clock)

    @cached_property
    def list_projects(self) -> ListProjects:
        policy = self.policies[Kind.PROJECT]
        return ListProjects(
            self.indexes,
            self.files_of,
            lambda name: project_context(self.core, self.namer, policy, Scope(name)),
        )

    @cached_property
    def invalidate(self) -> Invalidate:
        return Invalidate(self.core, self.namer, self.find_project.holding)

    @cached_property
    def check_coherency(self) -> CheckCoherency:
        return CheckCoherency(self.core, self.namer, self.policies, self.clock)

    @cached_property
    def list_keys(self) -> ListKeys:
        return ListKeys(self.core, self.namer)

    @cached_property
    def explain_key(self) -> ExplainKey:
        return ExplainKey(self.core, self.namer, self._events_of)

    @cached_property
    def status(self) -> ShowStatus:
        return ShowStatus(
            self.core,
            self.clock,
            l1_enabled=self.config.l1_used,
            l2_enabled=self.config.l2_backend != "none",
            redis=self.config.l2_backend == "redis",
            deletes=lambda: self.remember.deletes,
            failures=lambda: self.ring.counts.get("TierFailed", 0),
        )

    @cached_property
    def watch_files(self) -> WatchFiles:
        from querycache.origins.file_watcher import FileWatcher

        return WatchFiles(
            indexes=self.indexes,
            watcher=FileWatcher(clock=self.clock),
            clock=self.clock,
            sweep_interval_s=self.config.l2.sweep_interval_s,
        )

    @cached_property
    def query_log(self) -> QueryLog:
        return QueryLog(self.home / "queries", self.clock)

    @cached_property
    def registry(self) -> Registry:
        return Registry(self.home / "registry", self.door, self.clock)

    @cached_property
    def warm_up(self) -> WarmUp:
        return WarmUp(self.l1, self.clock)

    async def model(self) -> Model:
        """The embedding model, loaded."""
        await self.embedder.start()
        return Model(self.embedder.identity, self.embedder.dimensions, self.embed.documents)

    def _events_of(self, key: str, tags: Collection[str]) -> list[Told]:
        """The events of a name, and of tags, in all living processes."""
        me = f"{self.door} {self.registry.pid}"
        told = [(at, me, event) for at, event in self.ring.events_of(key, tags)]
        for other in self.registry.living():
            rows = other.document.get("events")
            if other.pid != self.registry.pid and isinstance(rows, list):
                events = concerning(events_from(cast("list[object]", rows)), key, tags)
                told += [(at, f"{other.door} {other.pid}", event) for at, event in events]
        return sorted(told, key=lambda row: row[0])
