"""Config in, parts out: the one place that names concrete parts.

Each is made when first used, so that a command that needs no model loads none.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from functools import cached_property
from hashlib import sha256
from typing import cast

import msgspec

from querycache.assembly.comparing import Comparing
from querycache.assembly.origins import Origins
from querycache.cache.catalogue.embeddings import embeddings
from querycache.cache.catalogue.file_parses import file_parses
from querycache.cache.catalogue.project_context import project_context
from querycache.cache.parts import Parts
from querycache.cache.policy import Policy
from querycache.cache.two_tier import TwoTier
from querycache.cache.waiting import Limits
from querycache.codec.pipeline import Pipeline
from querycache.errors import TierError
from querycache.events import Evicted, TierFailed
from querycache.keys import Namer, Scope
from querycache.observe.event_log import Both, EventLog
from querycache.observe.query_log import QueryLog
from querycache.observe.registry import Registry
from querycache.observe.ring import EventRing, concerning, events_from
from querycache.ports.administration import Administration
from querycache.ports.codec import Shape
from querycache.ports.journal import Journal
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

_EVENTS_KEPT = 4000
_QUERY_LEASE_S = 2.0


class Wiring(Origins):
    """The parts of one process."""

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
        if self.config.l2_backend == "redis":
            from querycache.assembly.redis import shared_tier

            tier = shared_tier(self.config, self.clock)
            return tier, tier.backplane
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
    def redis_admin(self) -> Administration | None:
        """The administration of the Redis that is L2; None where another store is."""
        if self.config.l2_backend != "redis":
            return None
        from querycache.assembly.redis import administration

        return administration(self.config)

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
        waits = self.config.write_back
        limits = Limits(
            entries=waits.max_entries,
            bytes=waits.max_mb * 1024 * 1024,
            interval_s=waits.interval_s,
            batch=self.config.core.batch_size,
            drain_s=waits.drain_s,
        )
        return TwoTier(parts, limits, self.journal)

    @cached_property
    def journal(self) -> Journal | None:
        """Keeps what waits for L2 over a crash, where the settings ask for it."""
        behind = any(policy.strategy == "WRITE_BACK" for policy in self.policies.values())
        if not (behind and self.config.write_back.journal and self.config.l2_backend != "none"):
            return None
        from querycache.tiers.sqlite.journal import SqliteJournal

        return SqliteJournal(str(self.home / "journal" / self._store))

    @property
    def _store(self) -> str:
        """Another for each L2: what waited for one must not be replayed to another."""
        if self.config.l2_backend != "redis":
            return self.config.l2_backend
        from querycache.assembly.redis import address

        at, prefix = address(self.config), self.config.core.key_prefix
        named = f"{at.kind} {at.where} {at.database} {prefix}"
        return f"redis-{sha256(named.encode()).hexdigest()[:16]}"

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
            strategy=settings.write_strategy or self.config.core.write_strategy,
            l1_ttl=self.config.l1.ttl_s,
        )

    @cached_property
    def remember(self) -> Remember:
        return Remember(self.core, self.namer, self.policies, self.config.core.batch_size)

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
        batch = self.config.core.batch_size
        return CheckCoherency(self.core, self.namer, self.policies, self.clock, batch)

    @cached_property
    def comparing(self) -> Comparing:
        settings = self.config.coherency
        interval = settings.check_interval_s if settings.check_enabled else None
        return Comparing(self.check_coherency, self.registry, interval)

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
            checks=lambda: self.check_coherency.checks,
            troubles=self._troubles,
            most_connections=self.config.redis.max_connections,
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

    def _troubles(self) -> list[str]:
        qdrant = self.__dict__.get("qdrant")
        trouble = qdrant.server.trouble if qdrant is not None else ""
        return [f"Qdrant is out of use, the embedded vectors answer: {trouble}"] if trouble else []

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
