"""The journal: where writes that wait for L2 outlive their process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from querycache.ports.tiers import Write


class Recorded(msgspec.Struct, frozen=True):
    """A write as a journal holds it. Larger numbers are newer; `write.guard` is what its process
    knew of the name, None where it knew nothing.
    """

    number: int
    write: Write


class Orphans(Protocol):
    """The journal of a process that has died, taken over: nobody else replays it meanwhile."""

    @property
    def records(self) -> Sequence[Recorded]:
        """What it holds, oldest first."""
        ...

    def done(self) -> None:
        """All is replayed, or no longer true: it goes."""
        ...

    def let_go(self) -> None:
        """It could not be replayed now: it stays, for another try."""
        ...


class Journal(Protocol):
    """Durable memory of this process's writes. Raises `errors.TierError`, and only that."""

    async def append(self, records: Sequence[Recorded]) -> None:
        """Returns once the disk has them."""
        ...

    def remove(self, key: str, number: int) -> None:
        """Forgets a key's records up to a number, some time; returns at once."""
        ...

    async def adopt(self) -> Orphans | None:
        """The journal of a process that has died; None where there is none."""
        ...

    async def close(self) -> None:
        """Ends it. What was not removed stays, for others to adopt."""
        ...
