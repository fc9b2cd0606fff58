"""Commands that serve: serve, mcp."""

from __future__ import annotations

import asyncio
import json as json_
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from querycache.doors.cli import screen
from querycache.doors.cli.options import examples
from querycache.doors.cli.running import act, settings
from querycache.errors import UsageError

if TYPE_CHECKING:
    from querycache.assembly import App

_PANEL = "Serving"

Paths = Annotated[
    list[Path] | None, typer.Argument(metavar="PATH", help="Folders to index and watch.")
]
NoWatch = Annotated[bool, typer.Option("--no-watch", metavar="", help="Index once; don't watch.")]


def add_to(app: typer.Typer) -> None:
    """Adds these commands."""
    app.command(
        epilog=examples("serve .", "serve ~/code/shop ~/code/site --port 9000"),
        rich_help_panel=_PANEL,
    )(serve)
    app.command(epilog=examples("mcp /path/to/project"), rich_help_panel=_PANEL)(mcp)


def serve(
    paths: Paths = None,
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Serve /metrics and /metrics/cache here as well."),
    ] = None,
    no_watch: NoWatch = False,
) -> None:
    """Serve HTTP and MCP over HTTP on one port, and keep the indexes up to date.

    Routes are documented at /docs. Other machines are served only with QUERYCACHE_TOKEN set.
    """
    roots = _roots(paths)

    def started(address: str) -> None:
        screen.say(f"serving on {address} (Ctrl-C ends it); its routes: {address}/docs")
        for root in roots:
            screen.say(f"indexing{'' if no_watch else ' and watching'} {root}")
        screen.say("an editor's MCP settings, over HTTP or as a process of its own:")
        screen.say(_snippet({"type": "http", "url": f"{address}/mcp"}))
        screen.say(_snippet({"command": "querycache", "args": ["mcp", *roots]}))

    async def work(app: App) -> None:
        from querycache.doors.http_api.app import serve as serve_http

        await serve_http(
            app,
            roots,
            host=host,
            port=port,
            metrics_port=metrics_port,
            watch=not no_watch,
            started=started,
        )

    act("serve", work)


def mcp(paths: Paths = None, *, no_watch: NoWatch = False) -> None:
    """Serve MCP over standard input and output, for an editor that starts it."""
    roots = _roots(paths)
    loaded = settings()
    if sys.stdin.isatty():
        screen.say("speaking MCP with whoever types here; an editor is to start this, by its")
        screen.say(f"settings: {_snippet({'command': 'querycache', 'args': ['mcp', *roots]})}")
        screen.say("Ctrl-C ends it")
    from querycache.doors.mcp_server.stdio import serve_stdio

    asyncio.run(serve_stdio(loaded.config, roots, watch=not no_watch))


def _roots(paths: list[Path] | None) -> list[str]:
    for path in paths or []:
        if not path.is_dir():
            raise UsageError(f"{str(path)!r} is not a folder", remedy="name folders of projects")
    return [str(path.resolve()) for path in paths or []]


def _snippet(server: dict[str, object]) -> str:
    return json_.dumps({"mcpServers": {"querycache": server}})
