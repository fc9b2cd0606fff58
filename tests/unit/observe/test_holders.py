"""Lines and types that gained memory are named, where allocations are traced."""

from __future__ import annotations

import tracemalloc

from querycache.observe.holders import Holders


class Clinging:
    """An object that a leak keeps."""


def test_without_tracing_nobody_is_named():
    assert not tracemalloc.is_tracing()
    assert Holders().grown() == []


def test_the_line_and_the_type_are_named():
    tracemalloc.start()
    try:
        holders = Holders()
        kept = [bytearray(1 << 16) for _ in range(64)]
        things = [Clinging() for _ in range(3000)]
        grown = holders.grown()
    finally:
        tracemalloc.stop()
    assert len(kept) + len(things) == 3064
    assert grown[0].startswith("test_holders.py:")
    assert grown[0].endswith(("+4.0 MB", "+4.1 MB"))
    assert "Clinging +3,000" in grown
    assert holders.grown() == []
