"""Commands that measure and show: bench, replay, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from querycache.doors.cli import screen
from querycache.doors.cli.options import Json, examples
from querycache.doors.cli.running import settings
from querycache.errors import UsageError

_PANEL = "Measuring"


def add_to(app: typer.Typer) -> None:
    """Adds these commands."""
    app.command(epilog=examples("demo", "demo ~/code/shop"), rich_help_panel=_PANEL)(demo)
    app.command(epilog=examples("bench"), rich_help_panel=_PANEL)(bench)
    app.command(
        epilog=examples("replay trace.txt", "replay trace.npy.zst --capacity 1000 --policy LRU"),
        rich_help_panel=_PANEL,
    )(replay)


def demo(
    project: Annotated[Path, typer.Argument(help="A folder with code; nothing in it changes.")] = (
        Path()
    ),
    *,
    json: Json = False,
) -> None:
    """Show on a project what the cache saves.

    Indexes it in a temporary place, asks a few questions cold, again from memory, and again from
    new processes, and checks that the answers are the same.
    """
    from querycache.doors.cli.demo import show

    shown = show(project)
    if json:
        screen.answer(shown)
        return
    from querycache.doors.cli.render_demo import demonstration

    screen.out().print(demonstration(shown))


def bench(*, json: Json = False) -> None:
    """Measure both tiers on this machine, in a temporary store."""
    from querycache.doors.cli.bench import measure

    measured = measure(settings().config)
    if json:
        screen.answer(measured)
        return
    from querycache.doors.cli.render import table

    numbers = ("median",)
    made = table("operation", *numbers, "", numbers=numbers)
    for figure in measured.figures:
        made.add_row(figure.name, f"{figure.median_ms * 1e3:,.2f} µs", figure.what)
    screen.out().print(made)
    screen.out().print(
        f"median of {measured.rounds} rounds, values of {measured.value_bytes} bytes", style="dim"
    )


def replay(
    trace: Annotated[
        Path, typer.Argument(help="A .npy or .npy.zst of integers, or text, one key a line.")
    ],
    *,
    capacity: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Entries that fit (default: 1, 5 and 20 % of the keys)."),
    ] = None,
    policy: Annotated[
        list[str] | None, typer.Option(help="An eviction policy, or OPTIMUM; repeatable.")
    ] = None,
    json: Json = False,
) -> None:
    """Tell what hit ratio each eviction policy would have had on a recorded trace."""
    from querycache.doors.cli.replaying import policies_asked, replayed

    asked = policies_asked(policy or [])
    if trace.is_dir():
        raise UsageError(f"{str(trace)!r} is a folder", remedy="name a trace")
    done = replayed(trace, capacity or [], asked)
    if json:
        screen.answer(done)
        return
    from querycache.doors.cli.render import table

    made = table("entries that fit", *asked, numbers=("entries that fit", *asked))
    ratios = {(row.capacity, row.policy): row.hit_ratio for row in done.rows}
    for size in dict.fromkeys(row.capacity for row in done.rows):
        made.add_row(f"{size:,}", *(f"{ratios[size, name]:.1%}" for name in asked))
    screen.out().print(f"{done.accesses:,} accesses to {done.distinct:,} keys; hit ratios:")
    screen.out().print(made)
