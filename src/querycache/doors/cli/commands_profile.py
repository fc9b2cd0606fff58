"""The command profile: where the time of the cache goes, and what memory a process uses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from querycache.doors.cli import screen
from querycache.doors.cli.options import Json, examples

_PANEL = "Measuring"


def add_to(app: typer.Typer) -> None:
    """Adds it."""
    app.command(
        epilog=examples(
            "profile", "profile --memory --duration 60", "profile --memory --pid 4711"
        ),
        rich_help_panel=_PANEL,
    )(profile)


def profile(  # noqa: PLR0913 -- the options of a command
    *,
    memory: Annotated[
        bool, typer.Option("--memory", metavar="", help="Follow the memory of a process instead.")
    ] = False,
    duration: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="With --memory: for how long.")
    ] = 300,
    interval: Annotated[
        float, typer.Option(min=0.01, metavar="SECONDS", help="With --memory: how often.")
    ] = 10,
    pid: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="PID",
            help="With --memory: of which process (default: the querycache process that runs"
            " longest).",
        ),
    ] = None,
    operations: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000_000,
            metavar="N",
            help="How many entries are set and read (1,000); with --memory: set, 10,000 characters"
            " each, by this very process.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where the profile is written, for pstats (cache_profile.prof); with --memory:"
            " where the samples are, as JSON.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Tell where the time of sets and reads goes, or what memory a process uses over time.

    Without --memory it sets and reads entries under a profiler. With it, it follows a process
    until the time is over or Ctrl-C, and tells what it saw.
    """
    from querycache.doors.cli import profiling
    from querycache.errors import UsageError

    if not memory:
        if pid is not None:
            raise UsageError("--pid is of --memory", remedy="add --memory, or leave it out")
        done = profiling.timed(operations or 1000, output or Path("cache_profile.prof"))
        if json:
            screen.answer(done.figures)
            return
        screen.out().print(done.table, markup=False, soft_wrap=True)
        screen.say(f"the profile is in {done.figures.file}")
        return
    if pid is not None and operations is not None:
        raise UsageError(
            "--operations are done by this very process, and --pid names another",
            remedy="leave one of them out",
        )
    tell = _kept_quiet if json else _told
    seen = profiling.followed(pid, operations, duration_s=duration, interval_s=interval, tell=tell)
    if output is not None:
        profiling.write(seen, output)
    if json:
        screen.answer(seen)


def _kept_quiet(_line: str) -> None:
    """The answer is one object."""


def _told(line: str) -> None:
    screen.out().print(screen.line(line), markup=False, soft_wrap=True)
