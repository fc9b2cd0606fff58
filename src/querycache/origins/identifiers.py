"""The words of a text, each compound identifier followed by its parts.

Code spells several words as one: `getHTTPResponse`, `user_name`. A word search that knows only the
whole misses "http response"; one that knows only the parts misses the exact name. So both are
given: `getHTTPResponse get HTTP Response`. Upper and lower case stay as they are, ASCII
punctuation becomes space, and what is not ASCII stays in place.
"""

from __future__ import annotations

import re
from typing import Final

VERSION: Final = "words-1"
"""Changes whenever the same text might be split differently."""

_LONGEST: Final = 96
"""Characters; what is longer is data, not a name, and stays whole."""

_REMEMBERED: Final = 1 << 15
"""Words whose split is kept (some 6 MB); a source repeats its words many times over."""

_SPACED: Final = bytes(
    byte if not chr(byte).isascii() or chr(byte).isalnum() or byte == ord("_") else ord(" ")
    for byte in range(256)
)
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_+")


class _Words(dict[str, str]):
    """Each word's expansion, split when first met."""

    def __missing__(self, word: str) -> str:
        expanded = _expand(word)
        if len(word) <= _LONGEST:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[word] = expanded
        return expanded


def split_identifiers(text: str) -> str:
    """The words of `text`, one space between them, a compound name followed by its parts.

    >>> split_identifiers("self.getHTTPResponse_code(x)")
    'self getHTTPResponse_code get HTTP Response code x'
    """
    spaced = text.encode("utf-8", "surrogatepass").translate(_SPACED)
    return " ".join(map(_expansions, spaced.decode("utf-8", "surrogatepass").split()))


def _expand(word: str) -> str:
    if len(word) > _LONGEST:
        return word
    shape = word if word.isascii() else "".join(map(_case, word))
    ends = [match.span() for match in _HUMP.finditer(shape)]
    starts = [0, *(end for _, end in ends)]
    stops = [*(start for start, _ in ends), len(word)]
    parts = [word[start:stop] for start, stop in zip(starts, stops, strict=True) if start < stop]
    return word if not parts or parts == [word] else f"{word} {' '.join(parts)}"


def _case(character: str) -> str:
    """An ASCII letter of the same case, so that one pattern splits every script."""
    if character.isupper():
        return "A"
    return "a" if character.islower() else character


_expansions: Final = _Words().__getitem__
