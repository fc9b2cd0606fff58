"""What the guarded writes of one request know of each other."""

from __future__ import annotations

from querycache.tiers.redis.names import slot_of


class Batch:
    """The guarded writes that travel together: what one of them moves, the next one of its slot
    under the same guard may know of.
    """

    def __init__(self) -> None:
        self._names: set[bytes] = set()
        self._moved: dict[tuple[int, int], int] = {}  # slot and guard -> version

    def guard(self, name: bytes, guard: int) -> int:
        """What the version must be when the write arrives."""
        if name in self._names:
            return guard  # the entry itself was overwritten
        return self._moved.get((slot_of(name), guard), guard)

    def moved(self, name: bytes, guard: int | None, version: int) -> None:
        """A write gives the slot of its name another version."""
        self._names.add(name)
        if guard is not None:
            self._moved[slot_of(name), guard] = version
