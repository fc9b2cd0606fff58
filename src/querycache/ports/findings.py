"""Findings: what is not as it should be, with the evidence and what to do about it."""

from __future__ import annotations

from typing import Literal

import msgspec

Severity = Literal["info", "warning", "error"]
"""Only the last two make a system unwell."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not as it should be.

    Attributes:
        name: One of a closed set, `group.what`: "redis.unreachable", "hit_rate.low".
        evidence: The figures, the paths, the server's own words: one line, no secret.
        remedy: What to do, where possible a command that can be pasted.
    """

    name: str
    severity: Severity
    evidence: str
    remedy: str
