"""List what the shared tier holds, counted by the first three segments of the names."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from querycache.cache.two_tier import TwoTier
from querycache.keys import Namer, Scope
from querycache.values import Kind


class Pattern(msgspec.Struct, frozen=True):
    """Names that begin alike."""

    pattern: str
    count: int
    bytes: int


class ListKeys:
    """The use case. Raises `TierError` where L2 can't be read."""

    def __init__(self, core: TwoTier, namer: Namer) -> None:
        self._core = core
        self._namer = namer

    async def __call__(
        self, kinds: Sequence[Kind] = tuple(Kind), project: str | None = None
    ) -> list[Pattern]:
        """Patterns, most entries first."""
        counts: dict[str, list[int]] = {}
        for kind in kinds:
            prefix = f"{self._namer.prefix}:{kind}:"
            if project is not None:
                prefix += f"{Scope(project).segment}:"
            async for row in self._core.l2.scan(prefix):
                count = counts.setdefault(f"{self._namer.pattern_of(row.key)}:*", [0, 0])
                count[0] += 1
                count[1] += row.size
        patterns = [Pattern(name, count, size) for name, (count, size) in counts.items()]
        return sorted(patterns, key=lambda pattern: (-pattern.count, pattern.pattern))
