"""Access: who may do what with a project, and the record of who did."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

Right = Literal["read", "write"]

Outcome = Literal["allowed", "denied", "done", "failed"]

Granted = Mapping[str, Mapping[str, tuple[Right, ...]]]
"""The rights of each user, by project."""


class GrantStore(Protocol):
    """Keeps grants over the end of a process, and between processes."""

    def read(self) -> Granted:
        """What is granted now. Raises `NotAvailableError` where it can't be read: nobody may
        then.
        """
        ...

    def update(self, change: Callable[[Granted], Granted]) -> None:
        """Replaces what is granted, all at once. Raises `NotAvailableError`."""
        ...


class Audit(Protocol):
    """Writes down who did what. Never raises."""

    def write(
        self, who: str, what: str, outcome: Outcome, *, project: str = "", key: str = ""
    ) -> None:
        """One occurrence; `key` is written as a digest."""
        ...
