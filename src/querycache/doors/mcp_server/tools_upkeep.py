"""The tools of upkeep: cleaning up, and back-ups. No tool names a file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Literal

from mcp_types import CallToolResult
from pydantic import BaseModel, Field

from querycache.doors.mcp_server.answers import answer, read
from querycache.doors.mcp_server.tools import failures_told
from querycache.errors import UsageError
from querycache.values import Kind

if TYPE_CHECKING:
    from querycache.assembly.app import App

_Kind = Literal["embedding", "search", "project", "file", "other"]


class Cleaned(BaseModel):
    deleted: dict[str, int]
    told: bool


class BackedUp(BaseModel):
    path: str
    entries: int
    bytes: int
    skipped: int
    failed: int
    file_bytes: int


class UpkeepTools:
    """These tools, over an App that may not be there yet."""

    def __init__(self, app: Callable[[], Awaitable[App]]) -> None:
        self._app = app

    async def cache_clean(
        self,
        kinds: Annotated[list[_Kind], Field(min_length=1)],
        confirm: Annotated[  # noqa: FBT002 -- a named argument of a tool
            bool, Field(description="true once the user has agreed")
        ] = False,
    ) -> Annotated[CallToolResult, Cleaned]:
        """Delete all cache entries of some kinds, for everyone who shares the cache. What they
        cost is paid again; ask the user first.
        """
        with failures_told():
            if not confirm:
                named = ", ".join(kinds)
                raise UsageError(
                    f"this deletes all entries of: {named}",
                    remedy="ask the user, then repeat it with confirm=true",
                )
            done = await (await self._app()).clean_up([Kind(kind) for kind in kinds])
        return answer(read(Cleaned, done))

    async def cache_backup(self) -> Annotated[CallToolResult, BackedUp]:
        """Write what the shared cache holds into a new file in the cache's own folder."""
        with failures_told():
            done = await (await self._app()).back_up_at_home()
        return answer(read(BackedUp, done))
