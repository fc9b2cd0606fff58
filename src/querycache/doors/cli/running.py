"""A command around its App: settings in, an exit status out."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar, cast

from querycache.doors.cli import screen
from querycache.errors import QueryCacheError, UsageError

if TYPE_CHECKING:
    from querycache.assembly import App
    from querycache.config import Loaded

T = TypeVar("T")

FAILED, MISUSED = 1, 2


def settings() -> Loaded:
    """The settings; what looks like a slip in them is told. Raises `ConfigError`."""
    from querycache.config import load_config

    loaded = load_config()
    for warning in loaded.warnings:
        screen.say(f"warning: {warning}")
    return loaded


def act(door: str, work: Callable[[App], Awaitable[T]], *, told: bool = False) -> T:
    """Does `work` with an App that lives as long; with `told`, other processes see its counts
    meanwhile.
    """
    loaded = settings()
    from querycache.assembly import App

    async def whole() -> T:
        app = App(loaded.config, door=door)
        try:
            if not told:
                return await work(app)
            async with app.running():
                return await work(app)
        finally:
            await app.close()

    return asyncio.run(whole())


def failed(error: Exception, *, debug: bool) -> int:
    """Tells an error, in one line (with `debug`, and where it came from); the exit status."""
    error = _only(error)
    if debug:
        screen.err().print("".join(traceback.format_exception(error)), markup=False)
    text = str(error)
    if isinstance(error, QueryCacheError):
        text += f"; {error.remedy}" if error.remedy else ""
    elif isinstance(error, OSError) and error.filename and error.strerror:
        text = f"{error.filename}: {error.strerror}; QUERYCACHE_HOME says where data is kept"
        text += " (querycache --debug shows where it failed)"
    else:
        text = f"{type(error).__name__}: {text} (querycache --debug shows where)"
    screen.say(f"error: {text}")
    return MISUSED if isinstance(error, UsageError) else FAILED


def _only(error: Exception) -> Exception:
    """The error itself, out of the task group that it ended."""
    if isinstance(error, ExceptionGroup):
        group = cast("ExceptionGroup[Exception]", error)
        if len(group.exceptions) == 1:
            return _only(group.exceptions[0])
        return group
    return error
