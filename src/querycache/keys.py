"""Scope and key: no key without a scope.

A name in L2 is `{prefix}:{kind}:{project}:{last}`. The project and the last segment are
percent-encoded, so that neither can hold `:` `*` `?` `[` or a newline; names that would be longer
than the limit end in a digest instead.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple
from urllib.parse import quote, unquote

from querycache.values import Kind

SHARED = "_"
"""The project segment of what belongs to no single project."""


class Scope(NamedTuple):
    """Whose an entry is."""

    project: str = ""
    principal: str = ""

    @property
    def segment(self) -> str:
        """The project as a segment of a name; `_` for what is shared."""
        return encode(self.project) if self.project else SHARED


def encode(text: str) -> str:
    """One segment of a name. Injective; a lone surrogate is kept apart from its replacement; `_`
    alone is escaped.
    """
    coded = quote(text, safe="", errors="surrogatepass")
    return "%5F" if coded == SHARED else coded


def decode(segment: str) -> str:
    """What `encode` was given."""
    return unquote(segment, errors="surrogatepass")


def sayable(text: str) -> str:
    """The text, or its encoding where it holds what no UTF-8 can say: lone surrogates, as in the
    names of files that are not UTF-8.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return encode(text)
    return text


def digest(*parts: str | bytes) -> str:
    """32 hex digits over length-prefixed parts: `("a", "bc")` and `("ab", "c")` differ."""
    coded = [p.encode("utf-8", "surrogatepass") if isinstance(p, str) else p for p in parts]
    return blake2b(
        b"".join([b"%d:%b" % (len(data), data) for data in coded]), digest_size=16
    ).hexdigest()


class Namer:
    """Makes the names of entries under one prefix."""

    def __init__(self, prefix: str = "codebase_rag", max_length: int = 250) -> None:
        self.prefix = prefix
        self.max_length = max_length

    def typed(self, kind: Kind, scope: Scope, *parts: str | bytes) -> str:
        """The name of an entry that a kind's declaration addresses by `parts`."""
        return f"{self.prefix}:{kind}:{scope.segment}:{digest(scope.principal, *parts)}"

    def raw(self, key: str, scope: Scope = Scope()) -> str:  # noqa: B008 -- an immutable value
        """The name of a caller's own key; one that begins with a kind and a colon belongs to that
        kind.
        """
        head, colon, _ = key.partition(":")
        kind = head if colon and head in _KINDS else Kind.OTHER
        name = f"{self.prefix}:{kind}:{scope.segment}:{encode(key)}"
        if scope.principal or len(name) > self.max_length:
            # `=` is in no encoded key, so a key that spells a digest is never taken for it
            return f"{self.prefix}:{kind}:{scope.segment}:={digest(scope.principal, key)}"
        return name

    def full(self, key: str) -> str:
        """A full name as it is; of a caller's own key, its name."""
        is_name = key.startswith(f"{self.prefix}:") and key.count(":") >= _COLONS
        return key if is_name else self.raw(key)

    def kind_of(self, name: str) -> Kind:
        """The kind that a name says; `other` where it says none."""
        segment = name[len(self.prefix) + 1 :].partition(":")[0]
        return Kind(segment) if segment in _KINDS else Kind.OTHER

    def pattern_of(self, name: str) -> str:
        """The name's first three segments: what key listings count by."""
        return ":".join(name.split(":", 3)[:3])

    def meta(self, *segments: str) -> str:
        """The name of something that is no entry: a counter, a lease, a registry row."""
        return ":".join((self.prefix, "meta", *map(encode, segments)))


_COLONS = 3  # in a name, at least
_KINDS = frozenset(Kind) - {Kind.OTHER}
