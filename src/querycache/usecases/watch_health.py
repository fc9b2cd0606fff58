"""Watch the health: look in intervals, raise an alert for what lasts, and say when it is over.

What is an error is raised when it is first seen; a warning when it was seen in two looks in a
row, so that one slow answer wakes nobody, and once more if it becomes an error. Both are over
after two looks without them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import msgspec

from querycache.clock import Clock
from querycache.ports.alerts import Alert
from querycache.ports.findings import Finding

_LASTS = 2
_OVER = 2


class _Seen(msgspec.Struct):
    finding: Finding
    since: float
    looks: int = 0
    absent: int = 0
    raised: bool = False
    error: bool = False  # it was raised as one


class WatchHealth:
    """The use case. `active` holds the alerts that are raised now, by name."""

    def __init__(
        self,
        look: Callable[[], Awaitable[Sequence[Finding]]],
        tell: Callable[[Alert], None],
        clock: Clock,
        interval_s: float,
    ) -> None:
        """`look` finds what is wrong now; `tell` hands an alert on and does not wait."""
        self._look = look
        self._tell = tell
        self._clock = clock
        self._interval_s = interval_s
        self._due = clock.monotonic() + interval_s
        self._seen: dict[str, _Seen] = {}
        self.active: dict[str, Alert] = {}

    async def turn(self) -> bool:
        """Looks, where the interval is over; whether it did."""
        if self._clock.monotonic() < self._due:
            return False
        self._due = self._clock.monotonic() + self._interval_s
        self._judge(await self._look())
        return True

    def _judge(self, findings: Sequence[Finding]) -> None:
        found = {one.name: one for one in findings if one.severity != "info"}
        for name, finding in found.items():
            seen = self._seen.setdefault(name, _Seen(finding, self._clock.wall()))
            seen.finding, seen.absent = finding, 0
            seen.looks += 1
            error = finding.severity == "error"
            tells = not seen.error if error else not seen.raised and seen.looks >= _LASTS
            seen.raised, seen.error = seen.raised or tells, seen.error or error
            if seen.raised:
                self.active[name] = self._alert(seen, "raised")
            if tells:
                self._tell(self.active[name])
        for name in self._seen.keys() - found.keys():
            seen = self._seen[name]
            seen.absent += 1
            if not seen.raised or seen.absent >= _OVER:
                del self._seen[name]
                if seen.raised:
                    del self.active[name]
                    self._tell(self._alert(seen, "over"))

    def _alert(self, seen: _Seen, state: Literal["raised", "over"]) -> Alert:
        said = msgspec.structs.asdict(seen.finding)
        return Alert(**said, state=state, since=seen.since, at=self._clock.wall())
