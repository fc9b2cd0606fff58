"""When the tiers are compared: by sample now and then, and in full when another process asks."""

from __future__ import annotations

import asyncio

import msgspec

from querycache.clock import Clock
from querycache.observe.registry import Published, Registry
from querycache.usecases.check_coherency import CheckCoherency, Coherency

_LOOK_S = 0.1
_SAMPLE = 200
"""Entries of L1 that a comparison in the background looks at."""

REQUEST = "coherency"


class Compared(msgspec.Struct, frozen=True):
    """What a process answers to the request of that number."""

    request: int
    found: Coherency


class Answered(msgspec.Struct, frozen=True):
    """What one process found; None where it did not answer in time."""

    pid: int
    door: str
    found: Coherency | None


class Everywhere(msgspec.Struct, frozen=True):
    """What all of them found. `coherent`: all answered, and nothing differed."""

    coherent: bool
    stale_entries: int
    mismatched_keys: list[str]
    processes: list[Answered]


async def everywhere(registry: Registry, clock: Clock, patience_s: float) -> Everywhere:
    """Asks each living process, and waits until all have answered, or for so long."""
    asked = await asyncio.to_thread(registry.living)
    request = await asyncio.to_thread(registry.request, REQUEST)
    try:
        until = clock.monotonic() + patience_s
        answers = [_answer(told, request) for told in asked]
        while not all(one.found for one in answers) and clock.monotonic() < until:
            await clock.sleep(_LOOK_S)
            now = {told.pid: told for told in await asyncio.to_thread(registry.living)}
            asked = [now[told.pid] for told in asked if told.pid in now]
            answers = [_answer(told, request) for told in asked]
    finally:
        await asyncio.to_thread(registry.withdraw, REQUEST)
    found = [one.found for one in answers if one.found is not None]
    return Everywhere(
        coherent=len(found) == len(answers) and all(one.coherent for one in found),
        stale_entries=sum(one.stale_entries for one in found),
        mismatched_keys=list(dict.fromkeys(key for one in found for key in one.mismatched_keys)),
        processes=answers,
    )


def _answer(told: Published, request: int) -> Answered:
    try:
        compared = msgspec.convert(told.document.get(REQUEST), Compared)
    except msgspec.ValidationError:  # none yet, or of another version
        return Answered(told.pid, told.door, None)
    return Answered(told.pid, told.door, compared.found if compared.request == request else None)


class Comparing:
    """One process's turn at it.

    Attributes:
        answer: What was found when another process asked last; published beside the counts.
    """

    def __init__(
        self, check: CheckCoherency, registry: Registry, interval_s: float | None
    ) -> None:
        """`interval_s` lies between two comparisons by sample; None: there are none."""
        self.answer: Compared | None = None
        self._check = check
        self._registry = registry
        self._interval_s = interval_s
        self._last: float | None = None
        self._request = 0

    async def turn(self, now: float) -> None:
        """Compares, if it is time (monotonic seconds)."""
        request = await asyncio.to_thread(self._registry.requested, REQUEST)
        if self._last is None:
            self._last = now
        if request != self._request:
            self._request = request
            if request:
                self.answer = Compared(request, await self._check())
        elif self._interval_s is not None and now - self._last >= self._interval_s:
            self._last = now
            await self._check(limit=_SAMPLE)
