"""The memory that this process may have: how much of it is used, and who says so."""

from __future__ import annotations

from typing import Literal

import msgspec

Source = Literal["cgroup", "address space", "system"]
Level = Literal["normal", "warning", "critical"]


class Reading(msgspec.Struct, frozen=True):
    """One look at the memory that this process may have. All in bytes.

    Attributes:
        used: Of `limit`, without what the kernel gives back when asked (inactive file pages).
        limit: The tightest limit: the one whose largest share is used.
        source: Who sets it: a cgroup, RLIMIT_AS, or (without either) the machine.
        rss: What this process itself has in memory.
        stalled: Percent of the last 10 s in which something waited for memory (PSI some avg10);
            None where the kernel does not tell.
    """

    used: int
    limit: int
    source: Source
    rss: int
    stalled: float | None = None

    @property
    def share(self) -> float:
        """The share of the limit that is used, from 0 to 1 (or above, where it is overdrawn)."""
        return self.used / self.limit if self.limit > 0 else 0.0
