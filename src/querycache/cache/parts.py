"""The ports that the core is built on, joined by the assembly."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from querycache.clock import Clock
from querycache.ports.codec import Codec
from querycache.ports.observer import Observer
from querycache.ports.tiers import L1, L2, Backplane


class Parts(msgspec.Struct, frozen=True):
    """One of each. `weigh` says what an entry of a name and encoded size counts for in L1, in
    bytes; `draw` gives uniform numbers in [0, 1), for jitter and early refresh.
    """

    l1: L1
    l2: L2
    backplane: Backplane
    codec: Codec
    clock: Clock
    observer: Observer
    weigh: Callable[[str, int], int]
    draw: Callable[[], float]
