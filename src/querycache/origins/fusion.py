"""Weighted reciprocal rank fusion: several rankings of the same things made one.

Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank
learning methods", SIGIR 2009. Ranks, unlike scores, of different searches can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence

K = 10
"""How flat the vote of a ranking is. The paper's 60 is for many rankings of like quality; with two
unlike ones a first place must weigh more (docs/design/search.md).
"""


def fuse(rankings: Sequence[tuple[float, Sequence[int]]]) -> dict[int, float]:
    """The fused score of each thing: the sum over the rankings of weight / (K + rank), rank from
    1.
    """
    scores: dict[int, float] = {}
    for weight, ranking in rankings:
        for rank, thing in enumerate(ranking, 1):
            scores[thing] = scores.get(thing, 0.0) + weight / (K + rank)
    return scores
