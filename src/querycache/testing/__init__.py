"""The test kit that users get too: a clock that only moves when told to, an observer that
remembers, a shared tier in memory, one that fails as it is told to, and a whole cache over it to
rehearse with (loaded when first used).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from querycache.testing.clock import FakeClock
from querycache.testing.flaky import FlakyBackplane, FlakyTier
from querycache.testing.memory import MemoryBackplane, MemoryL2, SharedMemory
from querycache.testing.observer import RecordingObserver

if TYPE_CHECKING:
    from querycache.testing.stage import Rehearsal, RehearsedCache, rehearsal

__all__ = [
    "FakeClock",
    "FlakyBackplane",
    "FlakyTier",
    "MemoryBackplane",
    "MemoryL2",
    "RecordingObserver",
    "Rehearsal",
    "RehearsedCache",
    "SharedMemory",
    "rehearsal",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'querycache.testing' has no attribute {name!r}")
    return getattr(import_module("querycache.testing.stage"), name)
