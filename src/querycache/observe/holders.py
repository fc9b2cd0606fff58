"""Who holds the memory that grew: the lines and the types that gained most since a beginning.

Known only where the interpreter traces allocations (`PYTHONTRACEMALLOC=1`), which makes each
several times as slow. Blocking, for a second or so in a large process.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath

_MB = 1024 * 1024
_LINES = 3
_TYPES = 3
_LEAST_MB = 1.0
_LEAST_OBJECTS = 1000


class Holders:
    """Compares with the moment at which it was made."""

    def __init__(self) -> None:
        self._lines = tracemalloc.take_snapshot() if tracemalloc.is_tracing() else None
        self._types = _types() if self._lines is not None else Counter[str]()

    def grown(self) -> list[str]:
        """The lines and types that gained most, largest first; empty without tracing."""
        if self._lines is None or not tracemalloc.is_tracing():
            return []
        now = tracemalloc.take_snapshot().filter_traces(
            (tracemalloc.Filter(inclusive=False, filename_pattern=tracemalloc.__file__),)
        )
        lines = [
            f"{PurePath(at.filename).name}:{at.lineno} +{change.size_diff / _MB:.1f} MB"
            for change in now.compare_to(self._lines, "lineno")[:_LINES]
            if change.size_diff >= _LEAST_MB * _MB and (at := change.traceback[0])
        ]
        gained = _types()
        gained.subtract(self._types)
        types = [
            f"{name} +{count:,}"
            for name, count in gained.most_common(_TYPES)
            if count >= _LEAST_OBJECTS
        ]
        return [*lines, *types]


def _types() -> Counter[str]:
    objects: Iterable[object] = gc.get_objects()
    return Counter(type(each).__qualname__ for each in objects)
