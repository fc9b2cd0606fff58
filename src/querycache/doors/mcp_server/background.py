"""An App's background work around a server: what fails there costs no request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from querycache.assembly.app import App

AGAIN_S = 5.0

_logger = logging.getLogger(__name__)


@asynccontextmanager
async def living(
    app: App, roots: Sequence[str] = (), *, watch: bool = True
) -> AsyncGenerator[None]:
    """Runs `App.running` while the block runs, and closes the App after it. If the work fails, the
    log says so and it starts again; searches bring indexes up to date meanwhile.
    """
    begun, over = asyncio.Event(), asyncio.Event()
    work = asyncio.ensure_future(_work(app, partial(app.running, roots, watch=watch), begun, over))
    await begun.wait()
    try:
        yield
    finally:
        over.set()
        await work


async def _work(
    app: App,
    running: Callable[[], AbstractAsyncContextManager[App]],
    begun: asyncio.Event,
    over: asyncio.Event,
) -> None:
    try:
        while not over.is_set():
            try:
                async with running():
                    begun.set()
                    await over.wait()
            except* Exception:
                _logger.exception("background work failed; it starts again")
            begun.set()
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), AGAIN_S)
    finally:
        begun.set()
        await app.close()
