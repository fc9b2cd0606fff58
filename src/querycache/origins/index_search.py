"""Hybrid search of one index: a keyword arm and a semantic arm, filtered first, fused by rank.

Whatever is ranked is ranked by (score, path, place in the file), and no list is cut through equal
scores unseen, so the answer depends on what is indexed and never on row numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from querycache.origins.fusion import fuse
from querycache.origins.identifiers import split_identifiers
from querycache.origins.index_signs import Floats, Integers
from querycache.origins.index_store import Session
from querycache.origins.index_vectors import ORDINAL_BITS
from querycache.origins.path_glob import compile_glob
from querycache.ports.origins import Question

DEPTH = 100
"""Places that each arm gives a vote to, at least."""

COLUMN_WEIGHTS = (1.0, 4.0, 1.0)
"""bm25's weights of symbol, path and body."""

MAX_WORDS = 64
"""Words of a question that are looked up; one that pastes a file asks for its first words."""

_KEYWORD = (
    "SELECT rowid, bm25(words, {}, {}, {}) AS score FROM words WHERE words MATCH ? {only}"
    " ORDER BY score LIMIT ?"
)
_WITHIN = " AND (rowid >> {bits}) IN (SELECT value FROM json_each(?))"
_WORD = re.compile(r"[^\W_]+")
_STOP_WORDS = frozenset(
    _WORD.findall(
        "a an and any are as at be been but by can could did do does doing for from had has have"
        " how i if in into is it its me my no not of on or our should so some such than that the"
        " their them then there these they this to was we were what when where which while who why"
        " will with would you your"
    )
)


Near = Callable[[Floats, int, Integers | None], list[tuple[int, float]]]
"""(chunk, cosine) of at least the so many most similar, and of all that tie with the last; within
the files given, if any.
"""


class FileName(NamedTuple):
    """What a search needs of a file, beside its vectors."""

    path: str
    language: str


class Found(NamedTuple):
    """A chunk's place in both arms (0: not found) and its fused score."""

    chunk: int
    score: float
    semantic_rank: int
    keyword_rank: int
    similarity: float


def search(
    session: Session,
    question: Question,
    files: Mapping[int, FileName],
    near: Near | None,
    *,
    semantic_weight: float,
) -> list[Found]:
    """The best `question.limit` chunks, best first; `near` is the semantic arm's way to find."""
    allowed = _allowed(question, files)
    depth = max(DEPTH, 2 * question.limit)
    order = _order(files)
    semantic: list[tuple[int, float]] = []
    keyword: list[int] = []
    if near is not None and question.vector is not None:
        found = near(np.frombuffer(question.vector, np.float32), depth, allowed)
        semantic = sorted(found, key=lambda pair: (-pair[1], *order(pair[0])))[:depth]
    if question.mode != "semantic":
        keyword = _keyword(session, question.text, allowed, depth, order)
    return _fused(semantic, keyword, semantic_weight, order)[: question.limit]


def match_expression(text: str) -> str:
    """A question as FTS5 wants it: any of its words, each quoted; "" where it has none. Stop words
    count only where it has no others.
    """
    words = list(dict.fromkeys(_WORD.findall(split_identifiers(text).lower())))
    telling = [word for word in words if word not in _STOP_WORDS] or words
    return " OR ".join(f'"{word}"' for word in telling[:MAX_WORDS])


_Order = Callable[[int], tuple[str, int]]


def _order(files: Mapping[int, FileName]) -> _Order:
    low = (1 << ORDINAL_BITS) - 1
    return lambda chunk: (files[chunk >> ORDINAL_BITS].path, chunk & low)


def _allowed(question: Question, files: Mapping[int, FileName]) -> Integers | None:
    """The files that the question's filters leave; None where it has no filter."""
    if not question.language and not question.path:
        return None
    matches = compile_glob(question.path).fullmatch if question.path else None
    kept = [
        number
        for number, (path, language) in files.items()
        if question.language in ("", language) and (matches is None or matches(path))
    ]
    return np.array(kept, np.int64)


def _keyword(
    session: Session,
    text: str,
    allowed: Integers | None,
    depth: int,
    order: _Order,
) -> list[int]:
    expression = match_expression(text)
    if not expression or (allowed is not None and not len(allowed)):
        return []
    only, bindings = "", [expression]
    if allowed is not None:
        only = _WITHIN.format(bits=ORDINAL_BITS)
        bindings.append(json.dumps(allowed.tolist()))
    statement = _KEYWORD.format(*COLUMN_WEIGHTS, only=only)
    room = depth + 1
    while True:
        rows: list[tuple[int, float]] = [
            (chunk, score) for chunk, score in session.rows(statement, (*bindings, room))
        ]
        if len(rows) < room or rows[-1][1] != rows[depth - 1][1]:
            break
        room *= 8  # the last place is shared by more than were read
    ranked = sorted(rows, key=lambda row: (row[1], *order(row[0])))
    return [chunk for chunk, _ in ranked[:depth]]


def _fused(
    semantic: Sequence[tuple[int, float]],
    keyword: Sequence[int],
    semantic_weight: float,
    order: _Order,
) -> list[Found]:
    similarity = dict(semantic)
    semantic_rank = {chunk: rank for rank, (chunk, _) in enumerate(semantic, 1)}
    keyword_rank = {chunk: rank for rank, chunk in enumerate(keyword, 1)}
    scores = fuse([(semantic_weight, list(semantic_rank)), (1.0, keyword)])
    found = [
        Found(
            chunk,
            score,
            semantic_rank.get(chunk, 0),
            keyword_rank.get(chunk, 0),
            similarity.get(chunk, 0.0),
        )
        for chunk, score in scores.items()
    ]
    return sorted(found, key=lambda each: (-each.score, *order(each.chunk)))
