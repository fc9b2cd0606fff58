"""The command line: its commands, and the options before a command."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from querycache.doors.cli import (
    commands_cache,
    commands_doctor,
    commands_key,
    commands_measure,
    commands_profile,
    commands_projects,
    commands_serving,
    commands_setup,
    commands_upkeep,
)

_EPILOG = """[dim]Start with:[/]

  querycache index .

  querycache search "where is the configuration read"

[dim]In an editor's MCP settings:[/]

  querycache mcp /path/to/project"""


class Session:
    """What the options before a command say."""

    debug = False


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _tell_version(asked: bool) -> None:  # noqa: FBT001 -- typer's shape
    if asked:
        from importlib.metadata import version

        sys.stdout.write(f"querycache {version('querycache')}\n")
        raise typer.Exit


@app.callback(epilog=_EPILOG)
def _start(
    context: typer.Context,
    *,
    debug: Annotated[
        bool,
        typer.Option("--debug", metavar="", help="Where a command fails, show the traceback."),
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            metavar="",
            help="Tell the version.",
            is_eager=True,
            callback=_tell_version,
        ),
    ] = False,
) -> None:
    """Code search that remembers its expensive steps, and never answers with what is no longer
    true.
    """
    del version
    session: Session = context.obj
    session.debug = debug


for _commands in (
    commands_projects,
    commands_cache,
    commands_doctor,
    commands_serving,
    commands_setup,
    commands_upkeep,
    commands_key,
    commands_measure,
    commands_profile,
):
    _commands.add_to(app)
