"""Small values that every layer shares."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What an entry is; the second segment of its name in L2."""

    EMBEDDING = "embedding"
    SEARCH = "search"
    PROJECT = "project"
    FILE = "file"
    OTHER = "other"


class Stamp(NamedTuple):
    """A counter's reading. Equal stamps mean that nothing was invalidated between them.

    `epoch` is random and drawn when the counter (or the store that keeps it) comes into being: a
    counter that was lost returns under another epoch, so nothing that was bound to the old one is
    ever valid again by accident.
    """

    epoch: int
    number: int
