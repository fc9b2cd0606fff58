"""Every setting: its variable, its default, what it allows and what it does, in one declaration
(those of the tiers stand in `tiers`, those of the origins in `origins`, those of what is watched
in `watching`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec

from querycache.config.origins import Embedder, Index, VectorStore
from querycache.config.readers import (
    INTERVAL,
    KEY,
    PATH,
    SECONDS,
    SECONDS_OR_NONE,
    SECRET,
    SWITCH,
    TOKEN,
    Secret,
    Setting,
    choice,
    integer,
    matching,
)
from querycache.config.tiers import L1, L2, Coherency, Compression, MemoryPressure, Redis
from querycache.config.watching import Watch


class Core(msgspec.Struct, frozen=True):
    """The cache as a whole."""

    enabled: Annotated[
        bool, Setting("CACHE_ENABLED", SWITCH, "Whether anything is cached at all.")
    ] = True
    level: Annotated[
        Literal["L1_MEMORY", "L2_REDIS", "BOTH"],
        Setting(
            "CACHE_LEVEL",
            choice("L1_MEMORY", "L2_REDIS", "BOTH"),
            "Which tiers are used; L2_REDIS means the shared tier, whatever its backend.",
        ),
    ] = "BOTH"
    write_strategy: Annotated[
        Literal["WRITE_THROUGH", "WRITE_BACK", "WRITE_AROUND"],
        Setting(
            "CACHE_WRITE_STRATEGY",
            choice("WRITE_THROUGH", "WRITE_BACK", "WRITE_AROUND"),
            "When a write reaches the shared tier. WRITE_THROUGH: before it is answered."
            " WRITE_AROUND: the same, and memory gets it at the next read. WRITE_BACK: behind.",
        ),
    ] = "WRITE_THROUGH"
    default_ttl_s: Annotated[
        float,
        Setting("CACHE_DEFAULT_TTL", SECONDS, "Life of an entry that belongs to no kind."),
    ] = 3600
    key_prefix: Annotated[
        str,
        Setting(
            "CACHE_KEY_PREFIX",
            matching(r"[A-Za-z0-9_.-]{1,64}", "up to 64 of the characters A-Z a-z 0-9 _ . -"),
            "First segment of every name in the shared tier.",
        ),
    ] = "codebase_rag"
    max_key_length: Annotated[
        int,
        Setting(
            "CACHE_MAX_KEY_LENGTH", integer(64, 4096), "A longer name ends in a digest instead."
        ),
    ] = 250
    batch_size: Annotated[
        int,
        Setting("CACHE_BATCH_SIZE", integer(1, 10_000), "Names in one round trip of a batch."),
    ] = 100
    loader_timeout_s: Annotated[
        float,
        Setting("CACHE_LOADER_TIMEOUT_S", SECONDS_OR_NONE, "Hard time-out of a load."),
    ] = 0


class WriteBack(msgspec.Struct, frozen=True):
    """Writes that wait for their way to the shared tier, under WRITE_BACK.

    A crash loses what waits: `max_entries` entries and `max_mb` megabytes at most, and while the
    shared tier takes them none older than `interval_s` and the time of a flush. With `journal` it
    loses what was written while the shared tier could not be reached.
    """

    interval_s: Annotated[
        float,
        Setting(
            "CACHE_WRITE_BACK_INTERVAL",
            INTERVAL,
            "How often what waits is written; as much time's writes a crash may lose.",
        ),
    ] = 1
    max_entries: Annotated[
        int,
        Setting(
            "CACHE_WRITE_BACK_MAX_ENTRIES",
            integer(1, 10_000_000),
            "Most entries that wait, and that a crash may lose; a write past it goes through.",
        ),
    ] = 10_000
    max_mb: Annotated[
        int,
        Setting(
            "CACHE_WRITE_BACK_MAX_MB",
            integer(1, 65_536),
            "Most memory of entries that wait, in MB; a write past it goes through.",
        ),
    ] = 64
    drain_s: Annotated[
        float,
        Setting(
            "CACHE_WRITE_BACK_DRAIN_S",
            SECONDS_OR_NONE,
            "How long the end of a process waits for the shared tier to take what waits.",
        ),
    ] = 2
    journal: Annotated[
        bool,
        Setting(
            "CACHE_WRITE_BACK_JOURNAL",
            SWITCH,
            "Whether a write is answered only when a journal under QUERYCACHE_HOME has it. What a"
            " crash leaves there is written by the next process with the same settings, if the"
            " shared tier still stands as it was; writes made while it could not be reached are"
            " not in it.",
        ),
    ] = False


class KindSettings(msgspec.Struct, frozen=True):
    """One kind of entries."""

    ttl_s: Annotated[float, Setting("{kind}_CACHE_TTL", SECONDS, "Life of {what}.")]
    enabled: Annotated[
        bool, Setting("{kind}_CACHE_ENABLED", SWITCH, "Whether {what} are cached.")
    ] = True
    max_size: Annotated[
        int,
        Setting(
            "{kind}_CACHE_MAX_SIZE",
            integer(0, 100_000_000),
            "Most entries of {what} in L1 (0: as many as L1 holds).",
        ),
    ] = 0
    compression: Annotated[
        bool,
        Setting(
            "{kind}_CACHE_COMPRESSION",
            SWITCH,
            "Whether {what} are compressed, where CACHE_COMPRESSION_ENABLED.",
        ),
    ] = True
    encryption: Annotated[
        bool | None,
        Setting(
            "{kind}_CACHE_ENCRYPTION",
            SWITCH,
            "Whether {what} are sealed; unset, as CACHE_ENCRYPTION_ENABLED says.",
        ),
    ] = None
    write_strategy: Annotated[
        Literal["WRITE_THROUGH", "WRITE_BACK", "WRITE_AROUND"] | None,
        Setting(
            "{kind}_CACHE_WRITE_STRATEGY",
            choice("WRITE_THROUGH", "WRITE_BACK", "WRITE_AROUND"),
            "When a write of {what} reaches the shared tier; unset, as CACHE_WRITE_STRATEGY says.",
        ),
    ] = None


KINDS: Mapping[str, tuple[str, KindSettings]] = MappingProxyType(
    {
        "embedding": ("vectors", KindSettings(ttl_s=7200, compression=False)),
        "search": ("search results", KindSettings(ttl_s=1800)),
        "project": ("project contexts", KindSettings(ttl_s=3600)),
        "file": ("parsed files", KindSettings(ttl_s=1800)),
    }
)
"""Each kind that has variables of its own: what it holds, and its defaults."""


class Safety(msgspec.Struct, frozen=True):
    """Encryption, isolation and access."""

    encryption_enabled: Annotated[
        bool,
        Setting("CACHE_ENCRYPTION_ENABLED", SWITCH, "Whether the shared tier holds sealed bytes."),
    ] = False
    encryption_key: Annotated[
        Secret,
        Setting("CACHE_ENCRYPTION_KEY", KEY, "The key that seals; those of the key store open."),
    ] = Secret()
    encryption_key_file: Annotated[
        Path | None,
        Setting("CACHE_ENCRYPTION_KEY_FILE", PATH, "File of mode 0600 that holds it, if unset."),
    ] = None
    encryption_key_command: Annotated[
        Secret,
        Setting(
            "CACHE_ENCRYPTION_KEY_COMMAND",
            SECRET,
            "Command that prints the key, if both are unset; never taken from `.env`.",
        ),
    ] = Secret()
    key_store_path: Annotated[
        Path,
        Setting(
            "ENCRYPTION_KEY_STORE_PATH",
            PATH,
            "Where generated keys are kept (default: $XDG_DATA_HOME/querycache/keys).",
        ),
    ] = Path()
    key_rotation_interval_s: Annotated[
        float,
        Setting(
            "ENCRYPTION_KEY_ROTATION_INTERVAL",
            SECONDS,
            "Age at which a key of the key store is replaced; what it sealed stays readable. A key"
            " that is set otherwise is never replaced.",
        ),
    ] = 604_800
    project_isolation: Annotated[
        Literal["true", "strict", "false"],
        Setting(
            "CACHE_PROJECT_ISOLATION",
            choice("true", "strict", "false"),
            "true: projects share only what is addressed by content; strict: nothing; false: all.",
        ),
    ] = "true"
    session_timeout_s: Annotated[
        float, Setting("CACHE_SESSION_TIMEOUT", SECONDS, "Life of an idle session.")
    ] = 3600
    access_logging: Annotated[
        bool, Setting("CACHE_ACCESS_LOGGING", SWITCH, "Whether access leaves an audit line.")
    ] = True
    failed_access_threshold: Annotated[
        int,
        Setting("FAILED_ACCESS_THRESHOLD", integer(1, 1_000_000), "Denials that raise an alert."),
    ] = 5
    failed_access_window_s: Annotated[
        float, Setting("FAILED_ACCESS_WINDOW", SECONDS, "Time in which they are counted.")
    ] = 300
    token: Annotated[
        Secret,
        Setting("QUERYCACHE_TOKEN", TOKEN, "Token that every HTTP route but health asks for."),
    ] = Secret()


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All settings, read once and validated.

    Attributes:
        kinds: By name: embedding, search, project, file, and other (which lives for
            CACHE_DEFAULT_TTL).
        home: What may be wiped: stores, indexes, registry.
        data_home: What may not: keys and tokens. `$XDG_DATA_HOME/querycache`.
    """

    core: Core = Core()
    write_back: WriteBack = WriteBack()
    l2: L2 = L2()
    redis: Redis = Redis()
    l1: L1 = L1()
    compression: Compression = Compression()
    coherency: Coherency = Coherency()
    memory_pressure: MemoryPressure = MemoryPressure()
    embedder: Embedder = Embedder()
    vector_store: VectorStore = VectorStore()
    kinds: Mapping[str, KindSettings]
    safety: Safety = Safety()
    watch: Watch = Watch()
    index: Index = Index()
    home: Annotated[
        Path,
        Setting(
            "QUERYCACHE_HOME",
            PATH,
            "Where stores and indexes are (default: $XDG_CACHE_HOME/querycache).",
        ),
    ]
    data_home: Path

    @property
    def sealed_kinds(self) -> frozenset[str]:
        """The kinds whose entries the shared tier holds sealed."""
        usual = self.safety.encryption_enabled
        return frozenset(
            kind
            for kind, own in self.kinds.items()
            if (usual if own.encryption is None else own.encryption)
        )

    @property
    def l1_used(self) -> bool:
        """Whether entries are kept in this process's memory."""
        return self.core.enabled and self.core.level != "L2_REDIS"

    @property
    def l2_backend(self) -> Literal["redis", "sqlite", "none"]:
        """The backend that these settings ask for, `auto` resolved."""
        if not self.core.enabled or self.core.level == "L1_MEMORY":
            return "none"
        if self.l2.backend != "auto":
            return self.l2.backend
        return "redis" if self.redis.named else "sqlite"
