"""The watch over one process's memory: pressure and leaks, turn by turn."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from querycache.config import Config
from querycache.observe.leak_watch import LeakReport, LeakWatch
from querycache.observe.memory_pressure import ProcessMemory, give_back, resident
from querycache.ports.memory import Reading
from querycache.ports.observer import Observer
from querycache.ports.tiers import L1
from querycache.usecases.relieve_memory import RelieveMemory

if TYPE_CHECKING:
    from querycache.assembly.wiring import Wiring

__all__ = ["LeakReport", "LeakWatch", "MemoryWatch", "leak_watch", "relief", "resident"]

_SAMPLE_S = 10.0
_WARM_UP_S = 300.0
_TOLD_STEP = 0.01  # of the limit: figures that moved less are told as they were


def relief(config: Config, l1: L1, observer: Observer) -> RelieveMemory | None:
    """What keeps an L1 within the memory there is, after its first look; None where the settings
    want none.
    """
    settings = config.memory_pressure
    if not settings.enabled:
        return None
    made = RelieveMemory(
        l1,
        observer,
        ProcessMemory().read,
        warning=settings.warning_threshold,
        critical=settings.critical_threshold,
    )
    made.turn()
    return made


def leak_watch(app: Wiring, *, warm_up_s: float = 0.0) -> LeakWatch:
    """A watch over this process that knows what the App's L1 holds."""

    def by_kind() -> Mapping[str, int]:
        kinds = {id(tally): str(kind) for kind, tally in app.core.tallies.items()}
        held: Counter[str] = Counter()
        for entry in list(app.l1.entries.values()):
            held[kinds.get(id(entry.tally), "other")] += entry.weight
        return held

    return LeakWatch(
        app.clock,
        os.getpid(),
        lambda: (resident(), app.l1.info().bytes),
        by_kind,
        warm_up_s=warm_up_s,
    )


class MemoryWatch:
    """Looks once at each turn, in a thread; for leaks each 10 s, in the doors that stay."""

    def __init__(self, app: Wiring) -> None:
        self._app = app
        app.l1.info()  # makes it, and its relief
        self._relief = app.relief
        self._read = ProcessMemory().read
        self._seen: Reading | None = None
        self._told: dict[str, object] = {}
        self._leaks: LeakWatch | None = None
        self._due = 0.0
        if app.config.watch.leak_detection_enabled and app.door in {"serve", "mcp"}:
            self._leaks = leak_watch(app, warm_up_s=_WARM_UP_S)
            self._due = app.clock.monotonic()

    async def turn(self) -> None:
        """One look."""
        await asyncio.to_thread(self._turn)

    def told(self) -> dict[str, object]:
        """What other processes may read of it; the same object while nothing changed much."""
        found = self._leaks.current if self._leaks else None
        leaks = [msgspec.to_builtins(found.finding)] if found else []
        return {"memory": self._told, "leaks": leaks} if self._told else {}

    def problems(self) -> list[str]:
        """Words for health; none unless it is critical."""
        relief = self._relief
        if relief is None or relief.reading is None or relief.level != "critical":
            return []
        reading = relief.reading
        used, limit = reading.used >> 20, reading.limit >> 20
        where = f"{used} of {limit} MB ({reading.source}) are used"
        return [f"memory is short: {where}; L1 takes nothing in"]

    def _turn(self) -> None:
        relief = self._relief
        if relief is None:
            reading = self._read()
        else:
            if relief.turn():
                give_back()
            reading = relief.reading or self._read()
        now = self._app.clock.monotonic()
        if self._leaks is not None and now >= self._due:
            self._due = now + _SAMPLE_S
            self._leaks.sample()
        self._note(reading)

    def _note(self, reading: Reading) -> None:
        relief, told = self._relief, self._seen
        states: dict[str, object] = {
            "level": relief.level if relief else "off",
            "l1_share": round(relief.share, 2) if relief else 1.0,
            "sheds": relief.sheds if relief else 0,
            "limit_bytes": reading.limit,
            "source": reading.source,
        }
        if told is not None and states.items() <= self._told.items() and not _moved(told, reading):
            return
        self._seen = reading
        self._told = {
            **states,
            "used_bytes": reading.used,
            "rss_bytes": reading.rss,
            "psi_some_avg10": reading.stalled,
        }


def _moved(told: Reading, reading: Reading) -> bool:
    step = max(1, int(reading.limit * _TOLD_STEP))
    if abs(reading.used - told.used) >= step:
        return True
    if abs(reading.rss - told.rss) >= max(1 << 20, told.rss // 20):
        return True
    return abs((reading.stalled or 0.0) - (told.stalled or 0.0)) >= 1.0
