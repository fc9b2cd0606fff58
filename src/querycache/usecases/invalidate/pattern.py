"""Patterns over the names of entries.

A name is `{prefix}:{kind}:{project}:{last}`, its segments percent-encoded. A pattern that begins
with the prefix is read segment by segment: the kind and the last segment may hold `*`, `?` and
`[abc]`, and segments that are left out after a `*` are `*`. The project is `*` or one project,
as it is or encoded, whatever characters its name has: no name of a project ever stands for
another one. Any other pattern is over callers' own keys as they spell them, but `{kind}:*` is that
whole kind, and `*` is everything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase, translate

import msgspec

from querycache.errors import UsageError
from querycache.keys import SHARED, Namer, Scope, decode
from querycache.values import Kind

_LONGEST = 1000
_SEGMENTS = 3  # after the prefix
_UNCHANGED = re.compile(r"[A-Za-z0-9_.~-]*")  # what encoding leaves as it is
_LITERAL = re.compile(r"[^*?\[]*")


class Meant(msgspec.Struct, frozen=True):
    """What a pattern names: entries of some kinds, of one segment (a project's, or what is shared;
    None: of all), whose last segment matches the glob `last`. With `own` that glob is over
    callers' own keys.
    """

    kinds: tuple[Kind, ...]
    segment: str | None = None
    last: str = "*"
    own: bool = False

    @property
    def whole(self) -> bool:
        """Whether it is all of some kinds, or all of one project: what counters can cut."""
        everywhere = self.segment is None or (self.segment != SHARED and self.kinds == tuple(Kind))
        return everywhere and self.last == "*" and not self.own

    @property
    def project(self) -> str | None:
        """The one project that it names."""
        return None if self.segment in {None, SHARED} else decode(self.segment or "")

    def heads(self, prefix: str) -> Sequence[str]:
        """What the names that match begin with: with one of these."""
        if self.segment is None:
            return [f"{prefix}:{kind}:" for kind in self.kinds]
        found = _UNCHANGED.match(self.last)
        head = found[0] if found else ""
        head = "" if head == SHARED else head  # alone, it is escaped
        return [f"{prefix}:{kind}:{self.segment}:{head}" for kind in self.kinds]

    def matcher(self, prefix: str) -> Callable[[str], bool]:
        """Says of a name in L2 whether it matches."""
        fits = re.compile(translate(self.last)).match

        def matches(name: str) -> bool:
            kind, _, rest = name.removeprefix(f"{prefix}:").partition(":")
            segment, _, last = rest.partition(":")
            if kind not in self.kinds or self.segment not in {None, segment}:
                return False
            plain = _decoded(last)
            if not self.own:
                return bool(fits(last) or fits(plain))
            named = kind == Kind.OTHER or plain.startswith(f"{kind}:")
            return named and not last.startswith("=") and bool(fits(plain))

        return matches


def read_pattern(pattern: str, namer: Namer) -> Meant:
    """What a pattern names. Raises `UsageError` where it can name no entry."""
    if not 0 < len(pattern) <= _LONGEST:
        raise UsageError(
            f"a pattern has between 1 and {_LONGEST} characters", remedy="for example 'search:*'"
        )
    head, colon, rest = pattern.partition(":")
    if set(pattern) == {"*"}:
        return Meant(tuple(Kind))
    if colon and head == namer.prefix:
        return _of_names(rest, pattern)
    if rest == "*" and head in tuple(Kind):
        return Meant((Kind(head),))
    return _of_own_keys(pattern)


def _of_names(text: str, pattern: str) -> Meant:
    segments = text.split(":", _SEGMENTS - 1)
    if len(segments) < _SEGMENTS:
        if not segments[-1].endswith("*"):
            raise _names_nothing(pattern)
        segments += ["*"] * (_SEGMENTS - len(segments))
    kind, project, last = segments
    kinds = tuple(one for one in Kind if fnmatchcase(one, kind))
    if not kinds or not project or not last:
        raise _names_nothing(pattern)
    return Meant(kinds, None if project == "*" else _segment(project), last)


def _of_own_keys(pattern: str) -> Meant:
    found = _LITERAL.match(pattern)
    literal = found[0] if found else ""
    prefixed = [kind for kind in Kind if kind is not Kind.OTHER]
    within = [kind for kind in prefixed if literal.startswith(f"{kind}:")]
    possible = [kind for kind in prefixed if f"{kind}:".startswith(literal)]
    possible = possible if literal != pattern else []
    return Meant(tuple(within or [*possible, Kind.OTHER]), SHARED, pattern, own=True)


def _segment(project: str) -> str:
    """A project's segment, from that segment or from the project's name."""
    plain = _decoded(project)
    as_it_is = project == SHARED or Scope(plain).segment == project
    return project if as_it_is else Scope(project).segment


def _decoded(segment: str) -> str:
    try:
        return decode(segment)
    except UnicodeDecodeError:  # no name of ours
        return segment


def _names_nothing(pattern: str) -> UsageError:
    return UsageError(
        f"the pattern {pattern!r} names no entry",
        remedy=f"a name is prefix:kind:project:key, with a kind of {', '.join(Kind)};"
        " `querycache keys` lists what there is",
    )
