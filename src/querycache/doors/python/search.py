"""Code search from Python: index a folder, ask a question.

Example:
    >>> import asyncio
    >>> from querycache import index_project, search_code
    >>> async def main():
    ...     await index_project(".")
    ...     answer = await search_code("where are settings read")
    ...     return [hit.path for hit in answer.results]
    >>> paths = asyncio.run(main())
"""

from __future__ import annotations

from pathlib import Path

from querycache.doors.python.current import current
from querycache.ports.origins import Mode
from querycache.usecases.index_project import Indexed
from querycache.usecases.search_code import Searched


async def index_project(path: str | Path, project: str = "", *, force: bool = False) -> Indexed:
    """Brings the index of a folder up to date, paying only for what changed.

    Raises `UsageError` (no folder, name taken), `EmbedderError`.
    """
    return await current().index(str(path), project, force=force)


async def search_code(
    query: str,
    project: str = "",
    *,
    limit: int = 10,
    mode: Mode = "hybrid",
    language: str = "",
    path: str = "",
) -> Searched:
    """Searches an indexed project: the one named, else the one that holds the working directory,
    else the only one.

    `results` holds the hits, best first; `cache` says where the answer came from. Raises
    `ProjectNotFoundError`, `UsageError`, `EmbedderError`.
    """
    return await current().search(
        query,
        project,
        folder=str(Path.cwd()),
        limit=limit,
        mode=mode,
        language=language,
        path=path,
    )
