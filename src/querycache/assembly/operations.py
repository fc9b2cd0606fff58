"""Operations: what watches over the cache, and what an operator does with it."""

from __future__ import annotations

from querycache.assembly.cases import UseCases


class Operations(UseCases):
    """The parts that operators need, each made when first used."""

    async def watch_over(self) -> None:
        """One turn, each second, of what watches over this process."""

    def told(self) -> dict[str, object]:
        """What other processes may read of this one besides its counts and events."""
        return {}
