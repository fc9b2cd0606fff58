"""The options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[
    bool,
    typer.Option("--json", metavar="", help="Answer with one JSON object on standard output."),
]
ProjectName = Annotated[
    str, typer.Option("--project", "-p", metavar="NAME", help="The project, by its name.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Don't ask.")]


def examples(*lines: str) -> str:
    """The end of a command's help: what one would type."""
    shown = "\n\n".join(f"  querycache {line.replace('[', chr(92) + '[')}" for line in lines)
    return f"[dim]{'Example' if len(lines) == 1 else 'Examples'}:[/]\n\n{shown}"
