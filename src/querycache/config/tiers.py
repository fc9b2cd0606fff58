"""Settings of the tiers: the shared one, Redis, the process's memory, compression."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from querycache.config.readers import (
    HOST,
    INTERVAL,
    PATH,
    REDIS_URL,
    SECONDS,
    SECRET,
    SHARE,
    SWITCH,
    Secret,
    Setting,
    choice,
    integer,
    matching,
    number,
)
from querycache.config.redis_url import RedisUrl

_LARGEST_MB = 1024 * 1024


class L2(msgspec.Struct, frozen=True):
    """The shared tier, whatever its backend."""

    backend: Annotated[
        Literal["auto", "redis", "sqlite", "none"],
        Setting(
            "CACHE_L2_BACKEND",
            choice("auto", "redis", "sqlite", "none"),
            "auto is redis as soon as REDIS_HOST or REDIS_URL is set, else sqlite.",
        ),
    ] = "auto"
    deadline_ms: Annotated[
        float,
        Setting(
            "CACHE_L2_DEADLINE_MS",
            number(1, 60_000, "ms"),
            "Longest wait for one operation of the shared tier; no retry.",
        ),
    ] = 250
    sqlite_max_mb: Annotated[
        int,
        Setting(
            "CACHE_SQLITE_MAX_MB",
            integer(1, _LARGEST_MB),
            "Size cap of the embedded store, in MB; the longest unused entries go first.",
        ),
    ] = 2048
    sweep_interval_s: Annotated[
        float,
        Setting("QUERYCACHE_SWEEP_INTERVAL_S", INTERVAL, "How often the embedded store is swept."),
    ] = 30


class Redis(msgspec.Struct, frozen=True):
    """Where Redis is and how it is reached.

    Attributes:
        named: Whether REDIS_HOST or REDIS_URL was set.
        at: What REDIS_URL says beyond the parts; None without one.
    """

    host: Annotated[str, Setting("REDIS_HOST", HOST, "Host of the Redis server.")] = "localhost"
    port: Annotated[int, Setting("REDIS_PORT", integer(1, 65535), "Port of the Redis server.")] = (
        6379
    )
    password: Annotated[
        Secret, Setting("REDIS_PASSWORD", SECRET, "Password of the Redis server.")
    ] = Secret()
    db: Annotated[int, Setting("REDIS_DB", integer(0, 65535), "Number of the database.")] = 0
    url: Annotated[
        Secret,
        Setting("REDIS_URL", REDIS_URL, "Address of Redis; wins over host, port and so on."),
    ] = Secret()
    max_connections: Annotated[
        int,
        Setting("REDIS_MAX_CONNECTIONS", integer(1, 10_000), "Most connections of one process."),
    ] = 20
    pool_size: Annotated[
        int,
        Setting(
            "CACHE_CONNECTION_POOL_SIZE",
            integer(1, 10_000),
            "Idle connections that may stay open. Entries travel on one connection a node, and"
            " administration closes its own, so fewer stay.",
        ),
    ] = 10
    ssl_enabled: Annotated[bool, Setting("REDIS_SSL_ENABLED", SWITCH, "Whether to use TLS.")] = (
        False
    )
    ssl_cert_path: Annotated[
        Path | None, Setting("REDIS_SSL_CERT_PATH", PATH, "The client's certificate.")
    ] = None
    ssl_key_path: Annotated[
        Path | None, Setting("REDIS_SSL_KEY_PATH", PATH, "The client's private key.")
    ] = None
    ssl_ca_cert_path: Annotated[
        Path | None,
        Setting("REDIS_SSL_CA_CERT_PATH", PATH, "Certificates that the server is checked by."),
    ] = None
    connection_timeout_s: Annotated[
        float,
        Setting("REDIS_CONNECTION_TIMEOUT", SECONDS, "Wait for a connection (administration)."),
    ] = 5
    socket_timeout_s: Annotated[
        float,
        Setting("REDIS_SOCKET_TIMEOUT", SECONDS, "Wait for an answer (administration)."),
    ] = 5
    retry_on_timeout: Annotated[
        bool,
        Setting("REDIS_RETRY_ON_TIMEOUT", SWITCH, "Whether administration tries again."),
    ] = True
    max_retries: Annotated[
        int, Setting("REDIS_MAX_RETRIES", integer(0, 100), "How often administration tries again.")
    ] = 3
    maxmemory: Annotated[
        str,
        Setting(
            "REDIS_MAXMEMORY",
            matching(r"(?i)[0-9]{1,15}(b|kb?|mb?|gb?)?", "bytes, or a number with kb, mb or gb"),
            "Memory of the server; given to it by compose, never by a client on its own.",
        ),
    ] = "2gb"
    maxmemory_policy: Annotated[
        str,
        Setting(
            "REDIS_MAXMEMORY_POLICY",
            choice(
                "noeviction",
                "allkeys-lru",
                "allkeys-lfu",
                "allkeys-random",
                "volatile-lru",
                "volatile-lfu",
                "volatile-random",
                "volatile-ttl",
            ),
            "What the server evicts when its memory is full.",
        ),
    ] = "allkeys-lru"
    named: bool = False
    at: RedisUrl | None = None


class L1(msgspec.Struct, frozen=True):
    """The tier in the process's memory."""

    max_size: Annotated[
        int, Setting("MEMORY_CACHE_MAX_SIZE", integer(1, 100_000_000), "Most entries.")
    ] = 1000
    max_memory_mb: Annotated[
        int, Setting("MEMORY_CACHE_MAX_MEMORY_MB", integer(1, _LARGEST_MB), "Most memory, in MB.")
    ] = 256
    ttl_s: Annotated[float, Setting("MEMORY_CACHE_TTL", SECONDS, "Longest life in this tier.")] = (
        3600
    )
    cleanup_interval_s: Annotated[
        float,
        Setting("MEMORY_CACHE_CLEANUP_INTERVAL", INTERVAL, "How often expired entries are swept."),
    ] = 300
    eviction_policy: Annotated[
        Literal["ADAPTIVE", "S3FIFO", "LRU", "LFU", "FIFO", "RANDOM"],
        Setting(
            "MEMORY_CACHE_EVICTION_POLICY",
            choice("ADAPTIVE", "S3FIFO", "LRU", "LFU", "FIFO", "RANDOM"),
            "Who goes when it is full.",
        ),
    ] = "ADAPTIVE"
    expired_cleanup_enabled: Annotated[
        bool,
        Setting(
            "CACHE_EXPIRED_CLEANUP_ENABLED",
            SWITCH,
            "Whether expired entries are swept in the background; they are never served anyway.",
        ),
    ] = True


class Compression(msgspec.Struct, frozen=True):
    """Compression of what the shared tier holds."""

    enabled: Annotated[
        bool, Setting("CACHE_COMPRESSION_ENABLED", SWITCH, "Whether bodies are compressed.")
    ] = True
    threshold_bytes: Annotated[
        int,
        Setting(
            "CACHE_COMPRESSION_THRESHOLD",
            integer(0, 1024 * 1024 * 1024),
            "Bodies of more bytes than this are compressed.",
        ),
    ] = 1024
    algorithm: Annotated[
        Literal["lz4", "zstd", "none"],
        Setting("CACHE_COMPRESSION_ALGORITHM", choice("lz4", "zstd", "none"), "How."),
    ] = "lz4"


class Coherency(msgspec.Struct, frozen=True):
    """The background comparison of the two tiers."""

    check_enabled: Annotated[
        bool, Setting("CACHE_COHERENCY_CHECK_ENABLED", SWITCH, "Whether it runs.")
    ] = True
    check_interval_s: Annotated[
        float, Setting("CACHE_COHERENCY_CHECK_INTERVAL", INTERVAL, "How often.")
    ] = 300


class MemoryPressure(msgspec.Struct, frozen=True):
    """What L1 does when memory gets short. Thresholds are shares of the memory that the process
    may have.
    """

    enabled: Annotated[
        bool,
        Setting("CACHE_MEMORY_PRESSURE_ENABLED", SWITCH, "Whether L1 shrinks under pressure."),
    ] = True
    warning_threshold: Annotated[
        float, Setting("CACHE_MEMORY_WARNING_THRESHOLD", SHARE, "Share at which it warns.")
    ] = 0.8
    critical_threshold: Annotated[
        float,
        Setting("CACHE_MEMORY_CRITICAL_THRESHOLD", SHARE, "Share that is critical."),
    ] = 0.9
