"""Freshness: cut what is no longer true, by hand or whenever a file changes.

Example:
    >>> import asyncio
    >>> from querycache import CacheInvalidationService, get_cache_service
    >>> async def main():
    ...     service = await get_cache_service()
    ...     await service.set("file:/src/app.py", "what was derived from it")
    ...     cut = await CacheInvalidationService().invalidate_file_cache("/src/app.py")
    ...     return cut.told, await service.get("file:/src/app.py")
    >>> asyncio.run(main())
    (True, None)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from querycache.doors.python.current import current
from querycache.usecases.invalidate import Invalidated

Paths = str | os.PathLike[str]


class CacheInvalidationService:
    """Makes entries unreachable at once, in every process. Needs no set-up; each method returns an
    `Invalidated` (files, entries, generation, told), whose `told` is False while the shared tier
    is down and other processes can't be reached.

    Example:
        >>> import asyncio
        >>> from querycache import CacheInvalidationService, get_cache_service
        >>> async def main():
        ...     service = await get_cache_service()
        ...     await service.set("report:42", "text", tags=["reports"])
        ...     await CacheInvalidationService().invalidate_tag("reports")
        ...     return await service.get("report:42")
        >>> print(asyncio.run(main()))
        None
    """

    async def invalidate_file_cache(self, path: Paths) -> Invalidated:
        """All that was derived from a file: parses, its `file:<path>` key, and every search result
        and project context of the projects that hold it.
        """
        return await current().invalidate.files([os.fspath(path)])

    async def invalidate_project_cache(self, name: str) -> Invalidated:
        """Every entry of a project; other projects keep theirs."""
        return await current().invalidate.project(name)

    async def invalidate_tag(self, tag: str) -> Invalidated:
        """Every entry that carries a tag."""
        return await current().invalidate.tag(tag)

    async def invalidate_pattern(self, pattern: str) -> Invalidated:
        """Every entry whose name matches: `search:*` (a kind), `codebase_rag:*:shop:*` (a
        project), `report:4?` (keys of your own), `codebase_rag:other:_:report*` (names). A kind or
        a project takes O(1), other patterns a scan; a project's name is never read as a pattern.
        Raises `UsageError` for what can name no entry.
        """
        return await current().invalidate.pattern(pattern)

    async def invalidate_all_caches(self) -> Invalidated:
        """Every entry of every project, in both tiers."""
        return await current().clear()


class FileMonitoringService:
    """Watches folders, and cuts what was derived from a file within moments of its change, in
    every process. The folders need not be indexed; the indexes of projects that hold changed files
    are brought up to date. What .gitignore names is passed over, and a file that is saved without
    a change changes nothing.

    Example:
        >>> import asyncio, tempfile
        >>> from querycache import FileMonitoringService
        >>> async def main():
        ...     monitor = FileMonitoringService()
        ...     with tempfile.TemporaryDirectory() as folder:
        ...         await monitor.start_monitoring([folder])
        ...         listening = monitor.get_status()[0]["listening"]
        ...         await monitor.stop_monitoring()
        ...     return listening
        >>> asyncio.run(main())
        True
    """

    async def start_monitoring(self, roots: Sequence[Paths] | Paths) -> None:
        """Watches these folders as well, in the running event loop, until `stop_monitoring`;
        returns once their changes are being reported. Raises `UsageError` for what is no folder.
        """
        given: Iterable[Paths] = [roots] if isinstance(roots, str | os.PathLike) else roots
        app = current()
        app.keep_house_here()
        await app.watching.start([os.fspath(root) for root in given])

    async def stop_monitoring(self) -> None:
        """Watches them no longer. Idempotent."""
        await current().watching.stop()

    def get_status(self) -> list[dict[str, object]]:
        """How watching goes, a row for each folder that this process watches: project, root,
        alive, watching, listening, batches, sweeps, error, last_event_at (wall seconds),
        lag_ms_p50, lag_ms_max.
        """
        return current().watching.told()
