"""Alerts: findings that lasted, told when they are raised and when they are over."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from querycache.ports.findings import Severity


class Alert(msgspec.Struct, frozen=True):
    """A finding that lasted, or that is over. Times in wall seconds; `since` is when it was first
    seen.
    """

    name: str
    state: Literal["raised", "over"]
    severity: Severity
    evidence: str
    remedy: str
    since: float
    at: float


class Receiver(Protocol):
    """Somebody who is told. May raise `OSError`, and nothing else."""

    async def tell(self, alert: Alert) -> None: ...
