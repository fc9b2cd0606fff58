"""What one setting says of another, and what this build can't do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from querycache.config.settings import KINDS, Config


class Problem(NamedTuple):
    """What is wrong, said with the names of the variables, and what to do about it."""

    message: str
    remedy: str


def not_built(config: Config) -> list[Problem]:
    """What `config` asks for that this build can't do; empty when it can do all of it."""
    return [problem for problem, asked in _refusals(config) if asked]


def _refusals(config: Config) -> Iterator[tuple[Problem, bool]]:
    """What the settings can name and this build can't do, and whether `config` names it."""
    yield (
        Problem(
            "CACHE_PROJECT_ISOLATION=strict, and this build does not keep contents apart yet",
            "set CACHE_PROJECT_ISOLATION=true, or give each project its own QUERYCACHE_HOME",
        ),
        config.safety.project_isolation == "strict",
    )
    for kind in map(str.upper, KINDS):
        settings = config.kinds[kind.lower()]
        yield (
            Problem(
                f"{kind}_CACHE_MAX_SIZE={settings.max_size}, and this build bounds L1 as a whole",
                f"unset {kind}_CACHE_MAX_SIZE; MEMORY_CACHE_MAX_SIZE bounds all kinds together",
            ),
            settings.max_size > 0,
        )


def idle(config: Config) -> Iterator[str]:
    """Settings that are set and change nothing."""
    if config.kinds["embedding"].compression:
        yield "EMBEDDING_CACHE_COMPRESSION=true changes nothing: vectors are not compressed"
    if config.core.enabled and config.core.level == "L2_REDIS" and config.l2_backend == "none":
        yield "CACHE_LEVEL=L2_REDIS with CACHE_L2_BACKEND=none keeps nothing"


def contradictions(config: Config, broken: AbstractSet[str]) -> Iterator[str]:
    """Settings that are fine alone and not together; none that involves a `broken` variable."""
    for variables, tell in _TOGETHER:
        if broken.isdisjoint(variables) and (message := tell(config)):
            yield message


def _thresholds(config: Config) -> str:
    low, high = config.memory_pressure.warning_threshold, config.memory_pressure.critical_threshold
    if high > low:
        return ""
    return (
        f"CACHE_MEMORY_CRITICAL_THRESHOLD={high:g}:"
        f" must be more than CACHE_MEMORY_WARNING_THRESHOLD={low:g}"
    )


def _pool(config: Config) -> str:
    idle, most = config.redis.pool_size, config.redis.max_connections
    if idle <= most:
        return ""
    return f"CACHE_CONNECTION_POOL_SIZE={idle}: must be at most REDIS_MAX_CONNECTIONS={most}"


def _pair(config: Config) -> str:
    if (config.redis.ssl_cert_path is None) == (config.redis.ssl_key_path is None):
        return ""
    return "REDIS_SSL_CERT_PATH and REDIS_SSL_KEY_PATH: must be set together"


def _files(config: Config) -> str:
    redis = config.redis
    wanted = (
        ("REDIS_SSL_CERT_PATH", redis.ssl_cert_path),
        ("REDIS_SSL_KEY_PATH", redis.ssl_key_path),
        ("REDIS_SSL_CA_CERT_PATH", redis.ssl_ca_cert_path),
    )
    missing = [f"{name}={path}" for name, path in wanted if path and not path.is_file()]
    if not redis.ssl_enabled or not missing:
        return ""
    return f"{', '.join(missing)}: there is no such file, and REDIS_SSL_ENABLED=true"


def _cluster(config: Config) -> str:
    at, database = config.redis.at, config.redis.db
    if at is None or at.kind != "cluster" or not database:
        return ""
    return f"REDIS_DB={database}: REDIS_URL names a cluster, which has no database but 0"


def _login(config: Config) -> str:
    at = config.redis.at
    if at is None or not at.user or config.redis.password:
        return ""
    return "REDIS_URL: names a user without a password; set REDIS_PASSWORD, or say it there"


def _socket(config: Config) -> str:
    at = config.redis.at
    if at is None or at.kind != "unix" or not config.redis.ssl_enabled:
        return ""
    return "REDIS_SSL_ENABLED=true: REDIS_URL names a socket, which has no TLS"


def _vector_store(config: Config) -> str:
    if config.vector_store.kind == "sqlite" or config.vector_store.url:
        return ""
    return "QUERYCACHE_VECTOR_STORE=qdrant: needs QUERYCACHE_QDRANT_URL"


_TOGETHER: tuple[tuple[frozenset[str], Callable[[Config], str]], ...] = (
    (
        frozenset({"CACHE_MEMORY_WARNING_THRESHOLD", "CACHE_MEMORY_CRITICAL_THRESHOLD"}),
        _thresholds,
    ),
    (frozenset({"CACHE_CONNECTION_POOL_SIZE", "REDIS_MAX_CONNECTIONS"}), _pool),
    (frozenset({"REDIS_SSL_CERT_PATH", "REDIS_SSL_KEY_PATH"}), _pair),
    (frozenset({"REDIS_SSL_ENABLED"}), _files),
    (frozenset({"REDIS_URL", "REDIS_DB"}), _cluster),
    (frozenset({"REDIS_URL", "REDIS_PASSWORD"}), _login),
    (frozenset({"REDIS_URL", "REDIS_SSL_ENABLED"}), _socket),
    (frozenset({"QUERYCACHE_VECTOR_STORE", "QUERYCACHE_QDRANT_URL"}), _vector_store),
)
