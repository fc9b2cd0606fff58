"""Cuts a file into chunks along its syntax tree: split what is too large, join what is small.

Design note. A node of more than `LIMIT` non-space bytes is replaced by its children, until what
is left are *units* that fit, or leaves. Neighbouring units are then joined greedily, and a new
chunk begins at a definition as soon as the one before it is worth being one (`SMALL`). The method
is that of cAST (Zhang et al. 2025, "Enhancing code retrieval-augmented generation with structural
chunking via abstract syntax tree"). Three things make it hold for any bytes:

- units are turned into *edges* between them before anything is weighed, so the chunks partition
  the file whatever a grammar leaves out of its tree;
- nothing recurses and a weight costs the same for any span, so neither depth nor width hurts;
- a leaf that is too large (a minified line, a long string) and a file without a grammar are cut
  by lines, at blank lines first, and inside a line only between characters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from querycache.origins.definitions import COMMENTS, Definitions, Node
from querycache.ports.origins import Chunk

VERSION = "1"
"""Changes with anything here or in `definitions` that might cut the same bytes differently."""

LIMIT = 1_500  # non-space bytes of a chunk
SMALL = 200  # non-space bytes; less is joined to what follows, even at a definition
SLACK = 64  # non-space bytes by which a closing token may exceed the limit
LONGEST = 4 * LIMIT  # bytes of a chunk with its spaces
DEEPEST = 8  # names in the path of a symbol

_SPACES = b" \t\r\n\f\v"


class Cut(NamedTuple):
    """Where a chunk ends, and what it is about."""

    end: int
    symbol: str


class Weights:
    """Counts the non-space bytes of any span of a file in constant time."""

    _BLOCK = 256

    def __init__(self, data: bytes) -> None:
        self._data = data
        block = self._BLOCK
        total = 0
        self._before = [0]
        for start in range(0, len(data), block):
            total += self._count(start, start + block)
            self._before.append(total)

    def __call__(self, start: int, end: int) -> int:
        block = self._BLOCK
        if end - start <= 2 * block:
            return self._count(start, end)
        first, last = -(-start // block), end // block
        middle = self._before[last] - self._before[first]
        return middle + self._count(start, first * block) + self._count(last * block, end)

    def fits(self, start: int, end: int, slack: int = 0) -> bool:
        size = end - start
        return size <= LIMIT or (size <= LONGEST and self(start, end) <= LIMIT + slack)

    def small(self, start: int, end: int) -> bool:
        return end - start < SMALL or self(start, end) < SMALL

    def _count(self, start: int, end: int) -> int:
        return len(self._data[start:end].translate(None, _SPACES))


@dataclass(slots=True)
class _Unit:
    """A span that is not split further.

    `scope` is the path around it, `symbol` that with its own name; `opens` says that a definition
    begins here, `closes` that it is a token (a bracket, a semicolon) that ends what is before it.
    """

    start: int
    end: int
    scope: tuple[str, ...]
    symbol: tuple[str, ...]
    opens: bool
    closes: bool
    comment: bool


def cut_tree(root: Node, data: bytes, language: str) -> list[Cut]:
    """Cuts along a syntax tree of `data`."""
    if not data:
        return []
    weights = Weights(data)
    units = list(_units(root, weights, Definitions(language)))
    if not units:
        return cut_lines(data)
    _set_edges(units, data)
    cuts: list[Cut] = []
    for unit in _joined(_with_comments(units, data, weights), weights):
        symbol = ".".join(unit.symbol)
        if weights.fits(unit.start, unit.end, SLACK):
            cuts.append(Cut(unit.end, symbol))
        else:
            cuts += [Cut(end, symbol) for end in _line_ends(data, unit.start, unit.end)]
    return cuts


def cut_lines(data: bytes) -> list[Cut]:
    """Cuts by lines, for what no grammar knows."""
    return [Cut(end, "") for end in _line_ends(data, 0, len(data))]


def chunks_of(data: bytes, cuts: Sequence[Cut]) -> tuple[Chunk, ...]:
    """The chunks between the cuts. Raises `ValueError` where they don't partition the file."""
    chunks: list[Chunk] = []
    start, line = 0, 1
    for end, symbol in cuts:
        if not start < end <= len(data):
            raise ValueError("cuts don't rise within the file")
        last = line + data.count(b"\n", start, end - 1)
        text = data[start:end].decode("utf-8", "replace")
        chunks.append(Chunk(start, end, line, last, symbol, text))
        line = last + (data[end - 1] == _NEWLINE)
        start = end
    if start != len(data):
        raise ValueError("cuts don't reach the end of the file")
    return tuple(chunks)


_NEWLINE = 0x0A


class _Waiting(NamedTuple):
    """A node on its way to become units. `around` is the path around the definition that it is the
    first part of, None where it is no such part; a `whole` is the file's only content.
    """

    node: Node
    scope: tuple[str, ...]
    around: tuple[str, ...] | None
    first: bool = False  # of its parent's children
    whole: bool = False


def _units(root: Node, weights: Weights, definitions: Definitions) -> Iterator[_Unit]:
    """The units of a tree, in the order of the file."""
    waiting = [_Waiting(root, (), None, first=True, whole=True)]
    while waiting:
        node, scope, around, first, whole = waiting.pop()
        start, end = node.start_byte, node.end_byte
        if start == end:
            continue
        name = definitions.name(node)
        inside = (*scope, name) if name and len(scope) < DEEPEST else scope
        if around is None and name:
            around = scope
        # A whole is always opened, so that a small file is cut at its definitions too.
        children = node.children if whole or not weights.fits(start, end) else ()
        if not children:
            opens = around is not None
            outer = scope if around is None else around
            closes = not (first or opens or node.is_named)
            yield _Unit(start, end, outer, inside, opens, closes, node.type in COMMENTS)
            continue
        if definitions.wraps(node):
            inside, around = scope, None
        waiting += [_Waiting(child, inside, None) for child in children[:0:-1]]
        whole = whole and len(children) == 1
        waiting.append(_Waiting(children[0], inside, around, first=True, whole=whole))


def _set_edges(units: list[_Unit], data: bytes) -> None:
    """Makes the units contiguous: each begins with the line that its node begins on, if nothing
    else is on it.
    """
    units[0].start = 0
    for before, after in pairwise(units):
        start = max(after.start, before.start)
        edge = data.rfind(b"\n", min(before.end, start), start) + 1
        if not edge:
            edge = before.end if data[before.end - 1 : before.end] == b"\n" else start
        before.end = after.start = min(max(edge, before.start), start)
    units[-1].end = len(data)


def _with_comments(units: list[_Unit], data: bytes, weights: Weights) -> list[_Unit]:
    """Puts the comments right above a definition into its unit."""
    kept = [units[-1]]
    for unit in reversed(units[:-1]):
        below = kept[-1]
        text = data[unit.start : below.start]
        if (
            below.opens
            and unit.comment
            and data[unit.start - 1 : unit.start] in {b"\n", b""}
            and text[len(text.rstrip()) :].count(b"\n") == 1
            and weights.fits(unit.start, below.end)
        ):
            below.start = unit.start
        else:
            kept.append(unit)
    kept.reverse()
    return kept


def _joined(units: list[_Unit], weights: Weights) -> list[_Unit]:
    """Joins neighbours into chunks. A chunk has the symbol of the definition that is open where it
    begins, or of the largest in it.
    """
    done: list[_Unit] = []
    current = units[0]
    for unit in units[1:]:
        if unit.start == unit.end:
            continue
        if _belongs(current, unit, weights):
            _extend(current, unit, weights)
        else:
            _put(done, current, weights)
            current = unit
    _put(done, current, weights)
    return done


def _belongs(current: _Unit, unit: _Unit, weights: Weights) -> bool:
    if unit.closes:
        return weights.fits(current.start, unit.end, SLACK)
    if not weights.fits(current.start, unit.end):
        return False
    small = weights.small(current.start, current.end)
    within = unit.scope[: len(current.symbol)] == current.symbol
    if unit.opens:
        return small and (within or unit.scope == current.scope)
    return small or within


def _extend(current: _Unit, unit: _Unit, weights: Weights) -> None:
    if unit.opens and (
        not current.opens
        or (
            unit.scope == current.scope
            and weights(unit.start, unit.end) > weights(current.start, current.end)
        )
    ):
        current.scope, current.symbol, current.opens = unit.scope, unit.symbol, True
    current.end = unit.end


def _put(done: list[_Unit], unit: _Unit, weights: Weights) -> None:
    """Closes a chunk; a few lines between definitions go to the chunk before them."""
    if (
        done
        and not unit.opens
        and weights.small(unit.start, unit.end)
        and weights.fits(done[-1].start, unit.end)
    ):
        done[-1].end = unit.end
    else:
        done.append(unit)


def _line_ends(data: bytes, start: int, end: int) -> list[int]:
    """Where to cut a span by lines: at its last blank line in the second half of a full chunk,
    else where it is full.
    """
    ends: list[int] = []
    weight = 0
    blank = 0  # the end of the last blank line that is worth cutting at
    position = start
    while position < end:
        stop = data.find(b"\n", position, end) + 1 or end
        heavy = len(data[position:stop].translate(None, _SPACES))
        if position > start and (weight + heavy > LIMIT or stop - start > LONGEST):
            start = blank if blank > start else position
            ends.append(start)
            position, weight = start, 0
            continue
        if heavy > LIMIT or stop - position > LONGEST:
            ends += _character_ends(data, position, stop)
            start = position = stop
            continue
        weight += heavy
        position = stop
        if not heavy and 2 * weight >= LIMIT:
            blank = stop
    if start < end:
        ends.append(end)
    return ends


def _character_ends(data: bytes, start: int, end: int) -> list[int]:
    """Where to cut one long line: after a separator if there is one in the last quarter, never
    inside a UTF-8 character.
    """
    ends: list[int] = []
    while end - start > LIMIT:
        stop = start + LIMIT
        near = max(data.rfind(mark, stop - LIMIT // 4, stop) for mark in (b" ", b";", b",", b"}"))
        if near >= 0:
            stop = near + 1
        else:
            while stop > start + LIMIT - 3 and data[stop] & 0xC0 == 0x80:  # noqa: PLR2004 -- UTF-8
                stop -= 1
        ends.append(stop)
        start = stop
    ends.append(end)
    return ends
