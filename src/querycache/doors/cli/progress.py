"""How far a long command is, on standard error: a bar, or a line every few seconds where nobody
watches.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from querycache.doors.cli import screen

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from querycache.clock import Clock
    from querycache.usecases.index_project import Progress

_EVERY_S = 3.0
_PATH = 48  # characters


@contextmanager
def indexing(clock: Clock) -> Generator[Callable[[Progress], None]]:
    """What `App.index` tells its progress to."""
    with counting("indexing", clock) as count:
        waiting = False

        def tell(progress: Progress) -> None:
            nonlocal waiting
            if progress.waiting and not waiting:
                waiting = True
                screen.say("another process is indexing this project; waiting for it")
            elif not progress.waiting:
                count(progress.done, progress.total, progress.path)

        yield tell


class _Lines:
    """Lines, for what is no terminal."""

    def __init__(self, what: str, clock: Clock) -> None:
        self._what = what
        self._clock = clock
        self._told = clock.monotonic()

    def __call__(self, done: int, total: int, path: str = "") -> None:
        now = self._clock.monotonic()
        if now - self._told >= _EVERY_S:
            self._told = now
            screen.say(f"{self._what}: {done} of {total} {path}".rstrip())


class _Bar:
    """A bar that goes when the work is done."""

    def __init__(self, what: str, bars: Bars) -> None:
        self._bars = bars
        self._task = bars.add_task(what, total=None, path="")

    def __call__(self, done: int, total: int, path: str = "") -> None:
        shown = screen.line(path)
        shown = shown if len(shown) <= _PATH else f"…{shown[1 - _PATH :]}"
        self._bars.update(self._task, completed=done, total=total, path=shown)


@contextmanager
def counting(what: str, clock: Clock) -> Generator[_Lines | _Bar]:
    """What is called with (done, total), or (done, total, path)."""
    console = screen.err()
    if not console.is_terminal:
        yield _Lines(what, clock)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[path]}", style="dim", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        yield _Bar(what, bars)
