"""What a model is asked for and what is sent to it; the difference is what the cache saved."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

import msgspec


class Usage(msgspec.Struct):
    """What a server told that it read: tokens, and the characters of the texts they stand for."""

    tokens: int = 0
    characters: int = 0


class Spending(msgspec.Struct):
    """Texts, calls and characters: those that callers asked for, and those that were sent."""

    texts_asked: int = 0
    texts_sent: int = 0
    calls_asked: int = 0
    calls_sent: int = 0
    characters_asked: int = 0
    characters_sent: int = 0
    tokens_told: int = 0
    characters_told: int = 0

    @classmethod
    def together(cls, several: Iterable[Spending]) -> Spending:
        """The sum of several."""
        every = list(several)
        return cls(*(sum(map(attrgetter(name), every)) for name in cls.__struct_fields__))
