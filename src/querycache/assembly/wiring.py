"""Config in, parts out: the one place that names concrete parts.

Each is made when first used, so that a command that needs no model loads none.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

from querycache.assembly.memory import relief
from querycache.assembly.origins import Origins
from querycache.assembly.sealing import entries_under, open_keyring, seal
from querycache.assembly.tracing import tracing_of
from querycache.cache.parts import Parts
from querycache.cache.policy import Policy
from querycache.cache.two_tier import TwoTier
from querycache.cache.waiting import Limits
from querycache.clock import Clock
from querycache.codec.pipeline import Pipeline
from querycache.config import Config
from querycache.errors import TierError
from querycache.events import Evicted, TierFailed
from querycache.keys import Namer
from querycache.observe.event_log import Both, EventLog
from querycache.observe.ring import EventRing
from querycache.ports.administration import Administration
from querycache.ports.codec import Codec, Shape
from querycache.ports.journal import Journal
from querycache.ports.metrics import Measured
from querycache.ports.tiers import L1, L2, Backplane
from querycache.ports.tracing import Tracing
from querycache.tiers.backplane import LocalBackplane
from querycache.tiers.memory import MemoryTier, weigh
from querycache.tiers.null import AbsentTier, NullTier
from querycache.usecases.relieve_memory import RelieveMemory
from querycache.usecases.remember import Remember
from querycache.values import Kind

if TYPE_CHECKING:
    from querycache.codec.seal import AesSeal

_EVENTS_KEPT = 4000
_QUERY_LEASE_S = 2.0


class Wiring(Origins):
    """The parts of one process.

    Attributes:
        relief: Keeps L1 within the memory there is, once there is an L1.
        measured: The metrics as they were read last, for who can't wait for them.
    """

    relief: RelieveMemory | None = None
    measured: Sequence[Measured] = ()

    def __init__(
        self, config: Config, *, door: str = "python", clock: Clock | None = None
    ) -> None:
        """Raises `ConfigError` for settings that can't be served, and for a key that can't."""
        super().__init__(config, door=door, clock=clock)
        if config.watch.tracing:
            _ = self.tracing
        self._keyring = open_keyring(config, self.clock) if config.sealed_kinds else None
        if self._keyring is not None:
            _ = self._keyring.current

    # --- the cache -----------------------------------------------------------------------------

    @cached_property
    def namer(self) -> Namer:
        return Namer(self.config.core.key_prefix, self.config.core.max_key_length)

    @cached_property
    def ring(self) -> EventRing:
        return EventRing(_EVENTS_KEPT, self.clock)

    @cached_property
    def tracing(self) -> Tracing:
        return tracing_of(self.config, self.clock, self.namer, lambda: self.measured)

    @cached_property
    def _observer(self) -> Both:
        operations = self.config.watch.log_operations
        both = Both(self.ring, EventLog(self.clock, self.namer, operations=operations))
        return Both(both, self.tracing) if self.config.watch.tracing else both

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
        tier = MemoryTier(
            max_entries=self.config.l1.max_size,
            max_bytes=self.config.l1.max_memory_mb * 1024 * 1024,
            policy=self.config.l1.eviction_policy,
            on_evict=lambda entry: self._observer.emit(Evicted(entry.key, entry.weight)),
        )
        self.relief = relief(self.config, tier, self._observer)
        return tier

    @cached_property
    def codec(self) -> Codec:
        compression = self.config.compression
        return Pipeline(
            compression=compression.algorithm if compression.enabled else "none",
            threshold=compression.threshold_bytes,
            seal=self.seal,
        )

    @cached_property
    def seal(self) -> AesSeal | None:
        """Seals what L2 holds, where the settings ask for it. Raises `ConfigError`."""
        ring = self._keyring
        return None if ring is None else seal(self.config, ring, self._shared[0], self.clock)

    async def entries_under(self, key_id: str) -> int:
        """How many entries of the shared tier a key sealed. Raises `TierError`."""
        return await entries_under(key_id, self._shared[0], self.namer.prefix)

    @cached_property
    def core(self) -> TwoTier:
        l2, backplane = self._shared
        draw = random.random  # jitter, no secret
        parts = Parts(self.l1, l2, backplane, self.codec, self.clock, self._observer, weigh, draw)
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
