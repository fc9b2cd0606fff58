"""The rules of a kind: frozen, one object for each."""

from __future__ import annotations

from typing import Literal

import msgspec

from querycache.errors import UsageError
from querycache.ports.codec import ANY, Shape
from querycache.values import Kind

Strategy = Literal["WRITE_THROUGH", "WRITE_BACK", "WRITE_AROUND"]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How entries of a kind are kept. Durations in seconds.

    Attributes:
        kind: What they are.
        ttl: Usable life, counted from the start of the load (or from the `set`). Absolute.
        fresh: Fresh life, at most `ttl`; None: as long as `ttl`. Past it an entry is served stale
            and refreshed behind, or served stale where its loader fails.
        jitter: The share (0 to 1) by which a write may shorten both lives, drawn once, stored.
        beta: Early refresh by XFetch: refresh behind on a hit when `-load_s * beta * ln(U)` is at
            least the fresh time left (Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic
            Cache Stampede Prevention", VLDB 2015). 0: never early; 1 is the paper's optimum.
        soft_timeout: How long a caller waits for a load while a stale value exists.
        hard_timeout: How long a caller waits for a load at all; None: as long as it takes.
        throttle: How long a stale value is served without another try after a failed load.
        lease: One load for all processes: how long a lease lasts between renewals; 0: none.
        lease_patience: How long to wait for another process's load before loading as well.
        shape: How values are written.
        immutable: Addressed by content, so that two writes of a name never differ.
        l1: Kept in memory.
        l2: Kept in the shared tier.
        strategy: When a write reaches the shared tier. WRITE_THROUGH: before it is answered.
            WRITE_AROUND: the same, and memory gets it at the next read. WRITE_BACK: behind; a
            crash may lose what waits (see `waiting.Limits`), and other processes hear of it
            when it has reached the shared tier.
        l1_ttl: The longest life in memory.
        max_l1_bytes: Values whose body is larger stay out of memory.
    """

    kind: Kind = Kind.OTHER
    ttl: float = 3600.0
    fresh: float | None = None
    jitter: float = 0.0
    beta: float = 0.0
    soft_timeout: float | None = None
    hard_timeout: float | None = None
    throttle: float = 30.0
    lease: float = 0.0
    lease_patience: float = 30.0
    shape: Shape = ANY
    immutable: bool = False
    l1: bool = True
    l2: bool = True
    strategy: Strategy = "WRITE_THROUGH"
    l1_ttl: float = 3600.0
    max_l1_bytes: int = 16 * 1024 * 1024

    def __post_init__(self) -> None:
        for name in ("ttl", "l1_ttl", "throttle", "lease_patience"):
            positive(name, getattr(self, name))
        for name in ("fresh", "soft_timeout", "hard_timeout"):
            value = getattr(self, name)
            if value is not None:
                positive(name, value)
        if not 0.0 <= self.jitter < 1.0:
            raise UsageError(f"jitter is a share from 0 to below 1, not {self.jitter}")
        if self.beta < 0.0 or self.lease < 0.0:
            raise UsageError("beta and lease must not be negative")

    def lives(self, ttl: float | None, draw: float) -> tuple[float, float]:
        """The fresh and the usable life of a write, shortened by jitter; `draw` from 0 to 1."""
        usable = positive("ttl", self.ttl if ttl is None else ttl)
        fresh = usable if self.fresh is None else min(self.fresh, usable)
        keep = 1.0 - self.jitter * draw
        return fresh * keep, usable * keep


_LONGEST = 1e10
"""Seconds: three centuries. What is longer is a mistake in the unit."""


def positive(name: str, seconds: float) -> float:
    """`seconds`, if it is a finite positive number; else `UsageError`."""
    if not 0.0 < seconds < _LONGEST:
        raise UsageError(f"{name} must be a positive number of seconds, not {seconds}")
    return seconds
