"""The use cases of one process, each made when first used."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from typing import cast

import msgspec

from querycache.assembly.comparing import Comparing
from querycache.assembly.wiring import Wiring
from querycache.cache.catalogue.embeddings import embeddings
from querycache.cache.catalogue.file_parses import file_parses
from querycache.cache.catalogue.project_context import project_context
from querycache.keys import Scope
from querycache.observe.query_log import QueryLog
from querycache.observe.registry import Registry
from querycache.observe.ring import concerning, events_from
from querycache.ports.spending import Spending
from querycache.usecases.check_coherency import CheckCoherency
from querycache.usecases.chunk_text import CHUNK_TEXT, embedded_text
from querycache.usecases.embed_texts import EmbedTexts
from querycache.usecases.explain_key import ExplainKey, Told
from querycache.usecases.find_project import FindProject
from querycache.usecases.index_project import IndexProject, Model
from querycache.usecases.invalidate import Invalidate
from querycache.usecases.list_keys import ListKeys
from querycache.usecases.list_projects import ListProjects
from querycache.usecases.search_code import SearchCode
from querycache.usecases.show_status import ShowStatus
from querycache.usecases.warm_up import WarmUp
from querycache.usecases.watch_files import WatchFiles
from querycache.values import Kind


class UseCases(Wiring):
    """The verbs over the parts."""

    @cached_property
    def embed(self) -> EmbedTexts:
        policy = self.policies[Kind.EMBEDDING]
        if self.config.embedder.provider == "local":  # 40 us a query: a lease costs more
            policy = msgspec.structs.replace(policy, lease=0.0)
        cache = embeddings(self.core, self.namer, policy, Scope())
        usage = getattr(self.embedder, "usage", None)  # a model behind a server has one
        return EmbedTexts(self.embedder, cache, self.config.core.batch_size, usage)

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
            spending=self._spending,
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
        return QueryLog(self.home / "queries", self.clock, on=self.config.watch.query_log)

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

    def _spending(self) -> Spending:
        embed = self.__dict__.get("embed")
        return Spending() if embed is None else embed.spending

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
