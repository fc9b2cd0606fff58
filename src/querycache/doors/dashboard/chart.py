"""The geometry of a chart: values to the path of a line. The script draws the same."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from querycache.doors.dashboard.history import Range

WIDTH, HEIGHT = 600, 100
GROUPS = 200
LEAST = {1: 120, 60: 60}
"""As many samples fill the width, by the seconds between them, while fewer are kept."""
SPARK_GROUPS = 60

_FASTEST_S, _DECADES = 1e-6, 7  # 1 us to 10 s

Values = Sequence[float | None]


def top_of(lines: Iterable[Values]) -> float:
    """The upper end of a scale that begins at 0: a power of two."""
    most = max((value for line in lines for value in line if value is not None), default=0.0)
    return 2.0 ** math.ceil(math.log2(most)) if most > 0 else 1.0


def path(values: Values, kept: int, scale: str, top: float, groups: int) -> str:
    """The `d` of a path: the newest of at most `kept` values is at the right edge, the mean of
    each of `groups` is a point, and where no number is the line is broken.
    """
    size = max(1, kept // groups)
    told: list[str] = []
    pen_down = False
    for start in range(0, len(values), size):
        group = [value for value in values[start : start + size] if value is not None]
        if not group:
            pen_down = False
            continue
        x = WIDTH * (1 - (len(values) - min(start + size, len(values))) / kept)
        y = _height(sum(group) / len(group), scale, top)
        told.append(f"{'L' if pen_down else 'M'}{x:.0f} {y:.1f}" + ("" if pen_down else "h0"))
        pen_down = True
    return "".join(told)


def across(seen: Range) -> int:
    """How many samples the width stands for."""
    told = max((len(values) for values in seen.series.values()), default=0)
    return max(LEAST[seen.step_s], told)


def drawn(seen: Range, names: Sequence[str], scale: str, groups: int) -> dict[str, str]:
    """The paths of several series on one scale."""
    lines = {name: seen.series.get(name, []) for name in names}
    top, kept = top_of(lines.values()), across(seen)
    return {name: path(line, kept, scale, top, groups) for name, line in lines.items()}


def _height(value: float, scale: str, top: float) -> float:
    if scale == "share":
        share = value
    elif scale == "latency":
        share = math.log10(max(value, _FASTEST_S) / _FASTEST_S) / _DECADES
    else:
        share = value / top
    return HEIGHT * (1 - min(1.0, max(0.0, share)))
