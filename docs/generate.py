"""Writes docs/reference from the code: settings, commands, routes, tools, metrics, events. `make
docs` runs it.

python docs/generate.py [FOLDER]
"""

from __future__ import annotations

import asyncio
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from querycache import events
from querycache.config import FIELDS, Secret
from querycache.doors.cli.program import app as command_line
from querycache.doors.http_api.openapi import document
from querycache.doors.http_api.routes import ROUTES
from querycache.doors.mcp_server.server import mcp_server
from querycache.usecases.show_status.metrics import METRICS

MADE = "<!-- made by docs/generate.py from the code; do not edit -->"


def settings() -> Iterator[str]:
    """Every variable, grouped as the configuration groups them."""
    yield "# Settings"
    yield MADE
    yield (
        "Environment variables, or lines of a `.env` file in the working directory (the"
        " environment wins). A value that is out of range stops the start and says what is"
        " allowed; an unknown name warns with the nearest known one. `querycache config show`"
        " tells the values in force and where each came from. What asks for something that this"
        " version does not have (strict isolation) is refused at the start."
    )
    group = None
    for field in FIELDS.values():
        if field.group != group:
            group = field.group
            yield f"## {group.replace('kinds.', 'kind: ') or 'places'}"
        yield f"### `{field.variable}`"
        yield f"{field.help} Allowed: {field.reader.allowed}.{_default(field.default)}"


def _default(value: object) -> str:
    if value in (None, "") or isinstance(value, Secret):
        return ""
    return f" Default: `{str(value).lower() if isinstance(value, bool) else value}`."


def commands() -> Iterator[str]:
    """Every command with its own help."""
    yield "# Commands"
    yield MADE
    group: Any = typer.main.get_command(command_line)
    for words, command in _each_command(group, ()):
        context = typer.Context(command, info_name=" ".join(("querycache", *words)))
        yield f"## `querycache {' '.join(words)}`"
        yield " ".join((command.help or "").split())
        usage = " ".join(command.collect_usage_pieces(context))
        yield f"```text\nquerycache {' '.join(words)} {usage}\n```"
        rows = [record for p in command.params if (record := p.get_help_record(context))]
        if rows:
            lines = [f"| {_cell(names)} | {_cell(text)} |" for names, text in rows]
            yield "\n".join(["| option | means |", "|---|---|", *lines])


def _each_command(group: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:  # noqa: ANN401 -- click's objects, which typer does not type
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _each_command(command, (*words, name))
        elif not command.hidden:
            yield (*words, name), command


def routes() -> Iterator[str]:
    """Every route, from the OpenAPI document."""
    yield "# HTTP routes"
    yield MADE
    yield (
        "JSON; the OpenAPI document is at `/openapi.json`, its page at `/docs`. Errors are"
        " `{error: {name, message, remedy}}`."
    )
    for path, operations in document(ROUTES, "0").get("paths", {}).items():
        for method, operation in operations.items():
            yield f"## `{method.upper()} {path}`"
            yield operation.get("description") or operation["summary"]
            answers = ", ".join(sorted(operation["responses"]))
            yield f"Answers with {answers}."


def tools() -> Iterator[str]:
    """Every MCP tool, as a client sees it."""
    yield "# MCP tools"
    yield MADE
    for tool in asyncio.run(_listed()):
        yield f"## `{tool.name}`"
        yield tool.description or ""
        fields = tool.input_schema.get("properties", {})
        required = tool.input_schema.get("required", [])
        lines = [
            f"| `{name}`{' *' * (name in required)} | {_cell(field.get('description', ''))} |"
            for name, field in fields.items()
        ]
        if lines:
            yield "\n".join(["| argument (* required) | means |", "|---|---|", *lines])


async def _listed() -> list[Any]:
    async def nothing() -> Any:  # noqa: ANN401 -- listing asks for no App
        raise NotImplementedError

    return list(await mcp_server(nothing).list_tools())


def metrics() -> Iterator[str]:
    """Every metric, from the table of declarations."""
    yield "# Metrics"
    yield MADE
    yield (
        "What `GET /metrics` tells Prometheus, and OpenTelemetry gets where it is switched on"
        " (there, counters go without `_total`, and of a histogram its `_count` and its `_sum`)."
        " Each process tells of itself. Labels have closed sets of values: no project, key or"
        " file is ever one."
    )
    for metric in METRICS:
        yield f"## `{metric.name}`"
        yield f"{metric.help} A {metric.type}."
        if metric.labels:
            rows = [
                f"| `{name}` | {', '.join(f'`{value}`' for value in values)} |"
                for name, values in metric.labels.items()
            ]
            yield "\n".join(["| label | values |", "|---|---|", *rows])


def events_() -> Iterator[str]:
    """Every event, from its own docstring and fields."""
    yield "# Events"
    yield MADE
    yield (
        "What the cache tells its observer: counted in `querycache_events_total`, kept in a ring"
        " for `explain` and the dashboard, logged where something went wrong. Each has the `key`"
        ' of its entry ("" where it concerns the whole cache).'
    )
    for event in events.Event.__subclasses__():
        yield f"## `{event.__name__}`"
        yield _cell(event.__doc__ or "")
        fields = [name for name in event.__struct_fields__ if name != "key"]
        if fields:
            hints = typing.get_type_hints(event)
            rows = [f"| `{name}` | {_type(hints[name])} |" for name in fields]
            yield "\n".join(["| field | is |", "|---|---|", *rows])


def _type(hint: Any) -> str:  # noqa: ANN401 -- any type at all
    values = typing.get_args(hint)
    return ", ".join(f"`{value}`" for value in values) if values else f"`{hint.__name__}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


PAGES = {
    "settings": settings,
    "commands": commands,
    "routes": routes,
    "tools": tools,
    "metrics": metrics,
    "events": events_,
}


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "reference")
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / f"{name}.md").write_text("\n\n".join(page()) + "\n", encoding="utf-8")
        print(folder / f"{name}.md")


if __name__ == "__main__":
    main()
