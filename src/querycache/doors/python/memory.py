"""The memory of this process: a detector of leaks, and what it uses over time.

Example:
    >>> import asyncio
    >>> from querycache import CacheMemoryLeakDetector
    >>> async def main():
    ...     detector = CacheMemoryLeakDetector()
    ...     await detector.start_monitoring()
    ...     await detector.stop_monitoring()
    ...     return detector.reports
    >>> asyncio.run(main())
    []
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from threading import Event

import msgspec

from querycache.assembly.memory import LeakReport, leak_watch, resident
from querycache.doors.python.cache import CacheService
from querycache.doors.python.current import current

_logger = logging.getLogger(__name__)

_INTERVAL_S = 10.0
_MB = 1024 * 1024


class MemoryReport(msgspec.Struct, frozen=True):
    """What a detector knows now: the bytes that the process has in memory, those that L1 counts of
    them, and the growth that it found, as findings (name, severity, evidence, remedy).
    """

    monitoring: bool
    rss_bytes: int
    l1_bytes: int
    samples: int
    leaks: list[dict[str, str]]


class CacheMemoryLeakDetector:
    """Watches the growth of this process's memory, each `interval` seconds, until stopped.

    A leak is memory that is not L1's and grows by 50 MB or more within 30 min, steadily, at 2
    MB/min or more (5: high, 10: critical); a spike is 100 MB within 5 min that stay. What L1 holds
    is told apart: a cache that fills up to its bound is neither.
    """

    def __init__(
        self, cache_service: CacheService | None = None, *, interval: float = _INTERVAL_S
    ) -> None:
        self._app = current() if cache_service is None else cache_service.app
        self._interval = interval
        self._watch = leak_watch(self._app)
        self._callbacks: list[Callable[[LeakReport], object]] = []
        self._task: asyncio.Task[None] | None = None
        self._samples = 0

    @property
    def reports(self) -> list[LeakReport]:
        """What was found so far, oldest first; a leak that gets worse is told again."""
        return list(self._watch.reports)

    def add_callback(self, callback: Callable[[LeakReport], object]) -> None:
        """Has each new report told to `callback`, in the event loop that monitors. One that raises
        is told of in the log.
        """
        self._callbacks.append(callback)

    async def start_monitoring(self) -> None:
        """Begins, and returns at once; the running loop keeps it up. Idempotent."""
        if self._task is None or self._task.done() or self._task.get_loop().is_closed():
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._monitor(), name="querycache leak detection")

    async def stop_monitoring(self) -> None:
        """Ends it, after a last look. Idempotent."""
        task, self._task = self._task, None
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self._look()

    def get_report(self) -> MemoryReport:
        """How it stands."""
        return MemoryReport(
            monitoring=self._task is not None and not self._task.done(),
            rss_bytes=resident(),
            l1_bytes=self._app.l1.info().bytes,
            samples=self._samples,
            leaks=[msgspec.to_builtins(report.finding) for report in self._watch.reports],
        )

    async def _monitor(self) -> None:
        while True:
            await self._look()
            await self._app.clock.sleep(self._interval)

    async def _look(self) -> None:
        report = await asyncio.to_thread(self._watch.sample)
        self._samples += 1
        if report is not None:
            for callback in self._callbacks:
                try:
                    callback(report)
                except Exception as error:  # noqa: BLE001 -- a caller's own: the watch goes on
                    _logger.warning("a callback of the leak detector failed: %a", error)


def monitor_memory_usage(duration: float = 300, interval: float = 10) -> None:
    """Prints what this process has in memory, each `interval` seconds for `duration` seconds.
    Blocks; Ctrl-C ends it.

    Example:
        >>> from querycache import monitor_memory_usage
        >>> monitor_memory_usage(duration=0)  # doctest: +ELLIPSIS
        Baseline memory: ... MB
    """
    baseline = resident() / _MB
    _print(f"Baseline memory: {baseline:.1f} MB")
    never = Event()
    for turn in range(1, round(duration / interval) + 1):
        never.wait(interval)
        now = resident() / _MB
        _print(f"Memory after {turn * interval:g}s: {now:.1f} MB ({now - baseline:+.1f} MB)")


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
