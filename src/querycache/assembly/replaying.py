"""What the replay of a trace runs through: the real L1, under any policy."""

from __future__ import annotations

from random import Random

from querycache.codec.compress import unpack_frame
from querycache.ports.tiers import L1
from querycache.tiers.eviction import POLICIES
from querycache.tiers.memory import MemoryTier

__all__ = ["POLICY_NAMES", "make_l1", "unpack_frame"]

POLICY_NAMES = tuple(POLICIES)
"""The eviction policies, as the settings name them."""

_UNBOUNDED = 1 << 62


def make_l1(policy: str, capacity: int) -> L1:
    """An empty L1 of `capacity` entries; the same choices in every run."""
    rng = Random(capacity)  # noqa: S311 -- not a secret
    return MemoryTier(max_entries=capacity, max_bytes=_UNBOUNDED, policy=policy, rng=rng)
