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
    from querycache.doors.python.search import index_project, search_code
    from querycache.errors import (
        ConfigError,
        EmbedderError,
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
    "CacheService",
    "ConfigError",
    "EmbedderError",
    "IndexBusyError",
    "LoadTimeoutError",
    "NotAvailableError",
    "Policy",
    "ProjectNotFoundError",
    "QueryCacheError",
    "ReentrantLoadError",
    "Scope",
    "TypedCache",
    "UnsupportedValueError",
    "UsageError",
    "get_cache_config",
    "get_cache_service",
    "index_project",
    "search_code",
]

_HOMES = {
    "CacheService": "doors.python.cache",
    "Policy": "cache.policy",
    "Scope": "keys",
    "TypedCache": "cache.typed",
    "get_cache_config": "doors.python.current",
    "get_cache_service": "doors.python.cache",
    "index_project": "doors.python.search",
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
