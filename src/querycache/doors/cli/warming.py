"""What `warm` reads, what it tells, and what whoever warms a cache should know."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from querycache.doors.cli import screen
from querycache.errors import UsageError
from querycache.usecases.warm_up import Warmed, questions

if TYPE_CHECKING:
    from querycache.assembly import App
    from querycache.ports.origins import Question

_MB = 1024 * 1024
_BUDGETS = {"time": "--budget-s", "bytes": "--budget-mb"}
_HOW = {
    "serve": "POST /warm to it fills its memory too",
    "mcp": "its tool cache_warm fills its memory too",
}
"""What to do about a living process, by its door."""


def questions_in(file: Path) -> list[Question]:
    """The questions of a file (see `usecases.warm_up.questions`). Raises `UsageError`."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{file} can't be read: {getattr(error, 'strerror', None) or error}",
            remedy="name a text file with one query a line",
        ) from error
    return questions(lines)


def as_text(done: Warmed) -> Text:
    """The counts, and why something failed or was left."""
    said = f"{done.loaded} loaded, {done.skipped} skipped, {done.failed} failed"
    said += f"; {done.bytes / _MB:.1f} MB, {done.took_ms / 1e3:.1f} s"
    if done.indexed:
        said += f"; {done.indexed} changed files indexed first"
    text = Text(said)
    if done.stopped:
        left = f"{done.left} left: {_BUDGETS[done.stopped]} is spent; another run goes on there"
        text.append(f"\n{left}", "yellow")
    for reason, times in done.reasons.items():
        text.append(f"\nfailed {times} x: {screen.line(reason)}", "yellow")
    return text


async def notes(app: App, done: Warmed, project: str) -> list[str]:
    """What is left to be known, or done. `project` is named where its query log was asked."""
    told: list[str] = []
    if project and not (done.left or done.loaded + done.skipped + done.failed > 1):
        why = "nothing was asked of it yet"
        if not app.config.watch.query_log:
            why = "questions are not kept (CACHE_QUERY_LOG_ENABLED)"
        told.append(f"{why}; --queries FILE names questions to warm {screen.line(project)} with")
    health = await app.status.health()
    state = "off" if health.l2_backend == "none" else "" if health.l2_connected else "out of reach"
    if state:
        return [*told, f"the shared tier is {state}: the answers end with this command"]
    living = await asyncio.to_thread(app.registry.living)
    beside = [one for one in living if one.door in _HOW and one.pid != app.registry.pid]
    told += [
        f"{one.door} {one.pid} finds the answers in the shared tier; {_HOW[one.door]}"
        for one in beside
    ]
    return told
