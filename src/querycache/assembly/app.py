"""A running querycache: its verbs, its background work and its end.

An App belongs to a process; its verbs may be called from any event loop. Background work (telling
the registry, sweeping, paying what is owed, watching) runs in the task group of `running`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from inspect import isawaitable
from typing import Any

import msgspec

from querycache.assembly.comparing import REQUEST
from querycache.assembly.models import Installed, Model, install_model, models
from querycache.assembly.models import Progress as ModelProgress
from querycache.assembly.projects import Projects
from querycache.clock import Clock
from querycache.config import Config
from querycache.errors import (
    QueryCacheError,
    TierError,
)
from querycache.observe.event_log import LOGGER
from querycache.observe.registry import Published
from querycache.usecases.invalidate import Invalidated
from querycache.usecases.show_status import Snapshot

_PULSE_S = 1.0
_FRESH_FOR_S = 1.0
_EVENTS_PUBLISHED = 2000


class App(Projects):
    """What doors call."""

    def __init__(
        self, config: Config, *, door: str = "python", clock: Clock | None = None
    ) -> None:
        """Raises `ConfigError` for settings that this build can't serve."""
        super().__init__(config, door=door, clock=clock)
        self._housekeeper: asyncio.Task[None] | None = None
        self._done: tuple[Snapshot, int, dict[str, object]] | None = None  # as it was last told
        self._document: dict[str, object] = {}
        self._due = dict.fromkeys(("l1", "l2"), self.clock.monotonic())

    # --- status --------------------------------------------------------------------------------

    async def processes(self) -> list[tuple[Published, Snapshot]]:
        """The living processes that told their counts, those of other machines on the same Redis
        last; this one only if it publishes.
        """
        found: list[tuple[Published, Snapshot]] = []
        here = await asyncio.to_thread(self.registry.living)
        for told in [*here, *await self.metering.posting.elsewhere()]:
            try:
                snapshot = msgspec.convert(told.document.get("snapshot"), Snapshot)
            except msgspec.ValidationError:  # of another version
                continue
            since = max(0.0, self.clock.wall() - told.published_at)
            uptime = round(snapshot.uptime_s + since, 1)
            found.append((told, msgspec.structs.replace(snapshot, uptime_s=uptime)))
        return found

    async def clear(self) -> Invalidated:
        """Makes every entry of every process unreachable, and reclaims what it held."""
        cut = await self.invalidate.everything()
        self.l1.clear()
        return cut

    async def cleanup_expired(self) -> int:
        """Drops what has expired from both tiers; how many entries."""
        swept = self.l1.sweep(self.clock.monotonic())
        try:
            return swept + await self.core.l2.sweep()
        except TierError:
            return swept

    # --- models --------------------------------------------------------------------------------

    def models(self) -> list[Model]:
        """The embedding models that the settings can name."""
        return models(self.config, self.models_folder)

    async def install_model(self, name: str, progress: ModelProgress) -> Installed:
        """Downloads a model and makes it usable. Raises `EmbedderError`, `UsageError`."""
        return await asyncio.to_thread(install_model, name, self.models_folder, progress)

    # --- background ----------------------------------------------------------------------------

    @asynccontextmanager
    async def running(
        self, roots: Sequence[str] = (), *, watch: bool = True
    ) -> AsyncGenerator[App]:
        """Keeps house for the block: sweeps, tells the registry, indexes and watches `roots`. The
        App stays open after it.
        """
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._pulse())]
            tasks += [group.create_task(self.follow(root, watch=watch)) for root in roots]
            try:
                yield self
            finally:
                for task in tasks:
                    task.cancel()
                self.watching.end()

    async def keep_house(self) -> None:
        """One turn of the background work."""
        await self.core.settle()
        await self.watch_over()
        await asyncio.to_thread(self._publish)
        now = self.clock.monotonic()
        await self.comparing.turn(now)
        settings = self.config.l1
        if settings.expired_cleanup_enabled:
            if now - self._due["l1"] >= settings.cleanup_interval_s:
                self._due["l1"] = now
                await asyncio.to_thread(self.l1.sweep, now)
            if now - self._due["l2"] >= self.config.l2.sweep_interval_s:
                self._due["l2"] = now
                await self.core.l2.sweep()

    def _publish(self) -> None:
        snapshot = self.status.snapshot()
        answer, events, more = self.comparing.answer, sum(self.ring.counts.values()), self.told()
        done = msgspec.structs.replace(snapshot, uptime_s=0.0), events, more
        if done != self._done:  # an idle process writes nothing
            rows = self.ring.rows()[-_EVENTS_PUBLISHED:]
            self._done = done
            self._document = {**more, "snapshot": snapshot, "events": rows, REQUEST: answer}
        self.registry.publish(self._document)

    def keep_house_here(self) -> None:
        """Keeps house in the running loop, as long as it runs, unless another loop does."""
        loop = asyncio.get_running_loop()
        task = self._housekeeper
        if task is None or task.done() or task.get_loop().is_closed():
            self._housekeeper = loop.create_task(self._pulse(), name="querycache housekeeping")

    async def _pulse(self) -> None:
        while True:
            try:
                await self.keep_house()
            except (OSError, QueryCacheError, MemoryError) as error:  # the next turn may do better
                LOGGER.warning("housekeeping: %s", ascii(str(error)))
            await self.clock.sleep(_PULSE_S)

    async def _end_housekeeping(self) -> None:
        task, self._housekeeper = self._housekeeper, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        elif task is not None:
            with suppress(RuntimeError):  # its loop was closed
                task.get_loop().call_soon_threadsafe(task.cancel)

    async def close(self) -> None:
        """Ends what runs and lets go of what is open. Idempotent."""
        made: dict[str, Any] = self.__dict__
        await self._end_housekeeping()
        if "watching" in made:
            await self.watching.stop()
        if "core" in made:
            await self.core.close()
        for name in list(self.opened):
            self.let_go(name)
        l2 = self.core.l2 if "core" in made else None
        first = ("metering", "alerting", "parser", "embedder", "qdrant")
        parts = [made.get(name) for name in first]
        parts += [l2, *(made.get(name) for name in ("journal", "redis_admin", "registry"))]
        for part in parts:
            ended = part and part.close()
            if isawaitable(ended):
                await ended
