"""The MCP server: its tools, and how it is served over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

from mcp.server import MCPServer
from mcp.server.caching import CacheHint
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import Tool, ToolAnnotations

from querycache.doors.mcp_server.tools import Tools
from querycache.doors.mcp_server.tools_doctor import DoctorTools
from querycache.doors.mcp_server.tools_upkeep import UpkeepTools

if TYPE_CHECKING:
    from querycache.assembly.app import App

_INSTRUCTIONS = (
    "Searches the code of indexed projects, by meaning and by name. Prefer search_code to opening "
    "files one after another; its answers are up to date with the disk."
)
_TOOLS_LIST_MS = 3_600_000  # the tools of a version never change
_READS, _CHANGES, _DESTROYS = (
    ToolAnnotations(
        read_only_hint=reads,
        destructive_hint=destroys,
        idempotent_hint=True,
        open_world_hint=False,
    )
    for reads, destroys in ((True, False), (False, False), (False, True))
)


class _Server(MCPServer[Any]):
    """A server whose tool list says nothing twice: it is paid for in every client's context."""

    async def list_tools(self) -> list[Tool]:
        return [
            tool.model_copy(
                update={
                    "input_schema": _untitled(tool.input_schema),
                    "output_schema": tool.output_schema and _untitled(tool.output_schema),
                }
            )
            for tool in await super().list_tools()
        ]


def mcp_server(
    app: Callable[[], Awaitable[App]],
    roots: Sequence[str] = (),
    **options: Any,  # noqa: ANN401 -- the SDK's
) -> MCPServer[Any]:
    """A server over the App that `app` gives. A search that names no project means that of the
    only root; `options` go to `MCPServer`.
    """
    server = _Server(
        "querycache",
        title="querycache",
        version=version("querycache"),
        instructions=_INSTRUCTIONS,
        cache_hints={"tools/list": CacheHint(ttl_ms=_TOOLS_LIST_MS, scope="public")},
        **options,
    )
    tools, upkeep = Tools(app, roots), UpkeepTools(app)
    for tool, title, hints in (
        (tools.search_code, "Search code", _READS),
        (tools.index_project, "Index a project", _CHANGES),
        (tools.list_projects, "List projects", _READS),
        (tools.forget_project, "Forget a project", _DESTROYS),
        (tools.cache_health, "Cache health", _READS),
        (tools.cache_stats, "Cache statistics", _READS),
        (tools.cache_explain, "Explain a cache entry", _READS),
        (DoctorTools(app).cache_doctor, "Find out what is wrong", _READS),
        (tools.cache_warm, "Warm the cache", _CHANGES),
        (tools.cache_invalidate, "Invalidate cache entries", _DESTROYS),
        (upkeep.cache_clean, "Clean the cache", _DESTROYS),
        (upkeep.cache_backup, "Back the cache up", _CHANGES),
    ):
        server.add_tool(tool, title=title, description=_plain(tool.__doc__), annotations=hints)
    return server


class Mounted(NamedTuple):
    """A server as an HTTP application has it: an ASGI endpoint, and what must run around it."""

    endpoint: StreamableHTTPASGIApp
    running: Callable[[], AbstractAsyncContextManager[None]]


def over_http(server: MCPServer[Any], names: Sequence[str]) -> Mounted:
    """The server over stateless streamable HTTP, answering to these host names."""
    hosts = [host for name in names for host in (name, f"{name}:*")]
    security = TransportSecuritySettings(
        allowed_hosts=hosts,
        allowed_origins=[f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts],
    )
    server.streamable_http_app(stateless_http=True, transport_security=security)
    manager = server.session_manager

    @asynccontextmanager
    async def running() -> AsyncGenerator[None]:
        async with manager.run():
            yield

    return Mounted(StreamableHTTPASGIApp(manager), running)


def _untitled(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without the titles that repeat the names of what they title."""
    kept: dict[str, Any] = {}
    for name, part in schema.items():
        if name in {"properties", "$defs"}:
            kept[name] = {key: _untitled(field) for key, field in part.items()}
        elif name != "title":
            kept[name] = part
    return kept


def _plain(text: str | None) -> str:
    return " ".join((text or "").split())
