"""querycache: the query caching layer for code search and RAG.

Names load what they need when they are first used: `import querycache` itself is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from querycache.cache.policy import Policy
    from querycache.cache.typed import TypedCache
    from querycache.doors.python.cache import CacheService, get_cache_service
    from querycache.doors.python.current import get_cache_config
    from querycache.doors.python.encryption import AESEncryption, KeyManager
    from querycache.doors.python.freshness import CacheInvalidationService, FileMonitoringService
    from querycache.doors.python.isolation import ProjectIsolationManager
    from querycache.doors.python.memory import CacheMemoryLeakDetector, monitor_memory_usage
    from querycache.doors.python.monitoring import CacheHealthMonitor
    from querycache.doors.python.search import index_project, search_code
    from querycache.doors.python.sessions import SessionSecurityManager
    from querycache.doors.python.warming import CacheWarmupService
    from querycache.errors import (
        AccessDeniedError,
        ConfigError,
        EmbedderError,
        EncryptionOperationError,
        IndexBusyError,
        LoadTimeoutError,
        NotAvailableError,
        ProjectNotFoundError,
        QueryCacheError,
        ReentrantLoadError,
        UnsupportedValueError,
        UsageError,
    )
    from querycache.keys import Scope

__version__ = "0.1.0"

__all__ = [
    "AESEncryption",
    "AccessDeniedError",
    "CacheHealthMonitor",
    "CacheInvalidationService",
    "CacheMemoryLeakDetector",
    "CacheService",
    "CacheWarmupService",
    "ConfigError",
    "EmbedderError",
    "EncryptionOperationError",
    "FileMonitoringService",
    "IndexBusyError",
    "KeyManager",
    "LoadTimeoutError",
    "NotAvailableError",
    "Policy",
    "ProjectIsolationManager",
    "ProjectNotFoundError",
    "QueryCacheError",
    "ReentrantLoadError",
    "Scope",
    "SessionSecurityManager",
    "TypedCache",
    "UnsupportedValueError",
    "UsageError",
    "get_cache_config",
    "get_cache_service",
    "index_project",
    "monitor_memory_usage",
    "search_code",
]

_HOMES = {
    "CacheHealthMonitor": "doors.python.monitoring",
    "AESEncryption": "doors.python.encryption",
    "CacheMemoryLeakDetector": "doors.python.memory",
    "CacheInvalidationService": "doors.python.freshness",
    "CacheService": "doors.python.cache",
    "FileMonitoringService": "doors.python.freshness",
    "CacheWarmupService": "doors.python.warming",
    "KeyManager": "doors.python.encryption",
    "Policy": "cache.policy",
    "ProjectIsolationManager": "doors.python.isolation",
    "Scope": "keys",
    "SessionSecurityManager": "doors.python.sessions",
    "TypedCache": "cache.typed",
    "get_cache_config": "doors.python.current",
    "get_cache_service": "doors.python.cache",
    "index_project": "doors.python.search",
    "monitor_memory_usage": "doors.python.memory",
    "search_code": "doors.python.search",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'querycache' has no attribute {name!r}")
    value: object = getattr(import_module(f"querycache.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
