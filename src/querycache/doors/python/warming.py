"""Warm-up from Python: load what will be asked for, before it is asked for.

Example:
    >>> import asyncio
    >>> from querycache import CacheWarmupService, get_cache_service, index_project
    >>> async def main():
    ...     service = await get_cache_service()
    ...     await index_project(".", "shop")
    ...     warmup = CacheWarmupService(service)
    ...     warmed = await warmup.warm_project_cache("shop", queries=["where is tax added"])
    ...     await service.shutdown()
    ...     return warmed.loaded, warmed.skipped, warmed.failed
    >>> asyncio.run(main())
    (2, 0, 0)
"""

from __future__ import annotations

from collections.abc import Sequence

from querycache.doors.python.cache import CacheService
from querycache.ports.origins import Question
from querycache.usecases.warm_up import Tell, Warmed

_MB = 1024 * 1024


class CacheWarmupService:
    """Fills the cache of a service: its memory, and the shared tier with it."""

    def __init__(self, cache_service: CacheService) -> None:
        self._app = cache_service.app

    async def warm_project_cache(
        self,
        project: str,
        *,
        queries: Sequence[str | Question] | None = None,
        budget_s: float = 30.0,
        budget_mb: float | None = None,
        progress: Tell = lambda _done, _total, _what: None,
    ) -> Warmed:
        """Indexes what changed of a project, then loads its overview and the answers to what was
        asked of it most, or to `queries`; stops after `budget_s` seconds, or when memory grew by
        `budget_mb` MiB. What is in memory already is skipped, so that a run that was stopped goes
        on where it was.

        `progress` is called with (done, total, what). Raises `ProjectNotFoundError`, which lists
        the projects that there are.
        """
        return await self._app.warm(
            project,
            queries,
            budget_s=budget_s,
            budget_bytes=float("inf") if budget_mb is None else budget_mb * _MB,
            progress=progress,
        )
