"""The use case: looks at everything side by side, each look within its deadline, and judges it in
the guide's order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from querycache.clock import Clock
from querycache.ports.findings import Finding
from querycache.usecases.diagnose.checks import CHECKS, Check, Looked
from querycache.usecases.diagnose.figures import Thresholds
from querycache.usecases.diagnose.names import finding

DEADLINE_S = 8.0

Look = Callable[[], Awaitable[object]]
"""Gives the value of a field of `Looked`. Raises where it can't."""

Progress = Callable[[int, int, str], None]
"""Told after each check: how many are done, of how many, and its name."""


def unheard(_done: int, _all: int, _name: str) -> None:
    """Progress that nobody hears of."""


class Checked(msgspec.Struct, frozen=True):
    """A check that ran. `findings` are the names of what it found; `seen` its figures, a line
    each; `took_ms` is how long the slowest look took that it needs.
    """

    name: str
    findings: tuple[str, ...]
    seen: tuple[str, ...]
    took_ms: float


class Diagnosis(msgspec.Struct, frozen=True):
    """What was found, in the guide's order, and the checks that found it."""

    findings: tuple[Finding, ...]
    checks: tuple[Checked, ...]
    took_ms: float

    @property
    def well(self) -> bool:
        """Whether nothing worse than information was found."""
        return all(one.severity == "info" for one in self.findings)


class _Ended(msgspec.Struct, frozen=True):
    """How a look ended."""

    value: object
    trouble: str
    took_ms: float


class Diagnose:
    """The use case."""

    def __init__(
        self,
        looks: Mapping[str, Look],
        thresholds: Thresholds,
        clock: Clock,
        *,
        ttl_s: float,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """`looks` gives fields of `Looked` by name; what has none is not looked at. `ttl_s` is
        the life of an entry, `deadline_s` that of a look.
        """
        self._looks = looks
        self._thresholds = thresholds
        self._clock = clock
        self._ttl_s = ttl_s
        self._deadline_s = deadline_s

    async def __call__(self, progress: Progress = unheard) -> Diagnosis:
        """Never raises for what is wrong with the system, and ends soon after the deadline."""
        began = self._clock.monotonic()
        looks = {
            name: asyncio.ensure_future(self._within(look)) for name, look in self._looks.items()
        }
        looked, ended = Looked(), dict[str, _Ended]()
        findings: list[Finding] = []
        checks: list[Checked] = []
        try:
            for check in CHECKS:
                for name in check.needs:
                    if name in looks and name not in ended:
                        ended[name] = end = await looks[name]
                        findings += _taken(looked, name, end)
                found, done = self._judged(check, looked, ended)
                findings += found
                checks.append(done)
                progress(len(checks), len(CHECKS), check.name)
        finally:
            for task in looks.values():
                task.cancel()
        took_ms = (self._clock.monotonic() - began) * 1000
        return Diagnosis(tuple(findings), tuple(checks), took_ms)

    def _judged(
        self, check: Check, looked: Looked, ended: Mapping[str, _Ended]
    ) -> tuple[list[Finding], Checked]:
        found, seen = check.judge(looked, self._thresholds, self._ttl_s)
        took_ms = max((ended[name].took_ms for name in check.needs if name in ended), default=0.0)
        return found, Checked(check.name, tuple(one.name for one in found), tuple(seen), took_ms)

    async def _within(self, look: Look) -> _Ended:
        """A look, within its deadline."""
        began = self._clock.monotonic()
        value, trouble = None, ""
        try:
            async with asyncio.timeout(self._deadline_s):
                value = await look()
        except TimeoutError:
            trouble = f"it had not ended after {self._deadline_s:g} s"
        except Exception as error:  # noqa: BLE001 -- what ails one look hides no other's finding
            trouble = f"{type(error).__name__}: {error}"
        return _Ended(value, trouble, (self._clock.monotonic() - began) * 1000)


def _taken(looked: Looked, name: str, end: _Ended) -> list[Finding]:
    """Puts a value where the checks find it; what became of a look that gave none."""
    if end.trouble:
        what = f"looking at {name.replace('_', '.')}: {end.trouble}"
        return [finding("check.unfinished", what, "querycache --debug doctor --verbose")]
    setattr(looked, name, end.value)
    return []
