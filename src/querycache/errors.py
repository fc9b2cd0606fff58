"""The whole tree of errors, on one page.

Every message says what happened and why; `remedy` says what to do about it. A failing cache never
raises to its caller: the errors below are those of wrong use, of wrong configuration and of the
origins that the cache stands in front of.
"""

from __future__ import annotations


class QueryCacheError(Exception):
    """The root: anything querycache raises on purpose."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class ConfigError(QueryCacheError, ValueError):
    """A setting is out of range, not of its type, or contradicts another."""


class UsageError(QueryCacheError, ValueError):
    """An argument makes no sense: an empty query, a path outside the root, an unknown mode."""


class UnsupportedValueError(QueryCacheError, TypeError):
    """A value of a type that the cache can't give back equal and of the same type."""


class LoadTimeoutError(QueryCacheError, TimeoutError):
    """A loader took longer than its hard time-out; it may finish behind."""


class ReentrantLoadError(QueryCacheError, RuntimeError):
    """A loader asked for the key that it is loading, which would wait for itself."""


class OutdatedKeyError(QueryCacheError):
    """A loader found that what it was asked under is no longer true; ask again under a new key.

    Nothing failed: the core counts no error, and keeps nothing.
    """


class ClosedError(QueryCacheError, RuntimeError):
    """What was asked has been closed."""


class NotAvailableError(QueryCacheError, RuntimeError):
    """The running configuration has no such part (no Redis, no extra installed)."""


class ProjectNotFoundError(QueryCacheError, LookupError):
    """No project of that name is indexed, or none was named and several are."""


class AccessDeniedError(QueryCacheError, PermissionError):
    """Whoever asked lacks the right. No stale value may hide it."""


class BackupError(QueryCacheError):
    """A backup could not be written, or a file is no backup that can be used."""


class IndexBusyError(QueryCacheError, TimeoutError):
    """Another process is indexing the project and did not finish in time."""


class EmbedderError(QueryCacheError):
    """The embedding model could not be loaded, or its endpoint failed or answered nonsense."""


class EncryptionOperationError(QueryCacheError):
    """What should be decrypted was altered, cut, or sealed by a key that is not at hand."""


class TierError(QueryCacheError, ConnectionError):
    """A tier failed. The core turns it into a reported miss; it reaches no caller of the cache."""


class UnreadableError(QueryCacheError):
    """Stored bytes that do not open. `reason` is one of a closed set of labels; the core turns it
    into a miss and a count.

    Reasons: bad_magic, bad_version, bad_header, truncated, bad_checksum, wrong_key, expired,
    too_big, bad_body; and of seals: sealed (and we have none), unsealed (and we seal), unknown_key
    (another key, or another salt of the project), bad_seal (not what was sealed under this name).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"stored entry does not open: {reason}")
        self.reason = reason
