"""What the cache saved: calls and tokens of the embedding model, time, money."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from querycache.ports.spending import Spending

if TYPE_CHECKING:
    from querycache.usecases.show_status.counts import Snapshot

_CHARACTERS_PER_TOKEN = 4.0
"""Where no server told: what English and code come to, roughly."""
_MILLION = 1_000_000


class Savings(msgspec.Struct, frozen=True):
    """What was not sent to the embedding model because it was known, beside what was sent.

    `ms`: the time that loads of all hits, of every kind, once took. `tokens_sent` is what the
    server said, and `tokens` is computed by its tokens per character; with `tokens_estimated` no
    server said anything, and a token counts for 4 characters. `money` is in the currency of
    QUERYCACHE_EMBEDDER_PRICE, None where that is not set.
    """

    texts: int
    calls: int
    tokens: int
    ms: float
    money: float | None
    texts_sent: int
    calls_sent: int
    tokens_sent: int
    tokens_estimated: bool


def savings(snapshots: Sequence[Snapshot], price: float) -> Savings:
    """Over processes; `price` is that of a million tokens, 0 where it is not known."""
    spent = Spending.together(snapshot.spending for snapshot in snapshots)
    told = spent.tokens_told > 0 and spent.characters_told > 0
    rate = spent.tokens_told / spent.characters_told if told else 1.0 / _CHARACTERS_PER_TOKEN
    saved_s = sum(kind.saved_s for snapshot in snapshots for kind in snapshot.kinds.values())
    kept = max(0, spent.characters_asked - spent.characters_sent)
    tokens = round(kept * rate)
    return Savings(
        texts=max(0, spent.texts_asked - spent.texts_sent),
        calls=max(0, spent.calls_asked - spent.calls_sent),
        tokens=tokens,
        ms=round(saved_s * 1000, 3),
        money=round(tokens * price / _MILLION, 6) if price else None,
        texts_sent=spent.texts_sent,
        calls_sent=spent.calls_sent,
        tokens_sent=spent.tokens_told if told else round(spent.characters_sent * rate),
        tokens_estimated=not told,
    )
