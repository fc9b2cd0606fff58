"""What the cache saves the embedding model, and what is posted for other machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.unit.usecases.app_kit import app_at

from querycache.ports.origins import Role
from querycache.ports.spending import Spending, Usage
from querycache.usecases.embed_texts import EmbedTexts
from querycache.usecases.show_status import KindCounts, Snapshot, savings

pytestmark = pytest.mark.asyncio


class Counting:
    """A model whose server tells two tokens for each text of four characters."""

    name = "counting"
    batch = 2
    identity = "counting 1"
    dimensions = 2

    def __init__(self) -> None:
        self.usage = Usage()
        self.calls = 0

    async def start(self) -> None:
        return

    async def embed(self, texts: Sequence[str], role: Role) -> NDArray[np.float32]:
        del role
        self.calls += -(-len(texts) // self.batch)
        self.usage.tokens += 2 * len(texts)
        self.usage.characters += sum(map(len, texts))
        return np.ones((len(texts), 2), np.float32)

    async def close(self) -> None:
        return


async def test_texts_calls_and_tokens_are_counted(tmp_path: Path):
    model = Counting()
    async with app_at(tmp_path / "home") as app:
        embed = EmbedTexts(model, app.embed._cache, 3, model.usage)  # pyright: ignore[reportPrivateUsage]  # the App's own cache
        await embed.documents(["aaaa", "bbbb", "cccc", "dddd", "aaaa"])
        await embed.documents(["aaaa", "bbbb", "cccc", "eeee"])
        await embed.query("aaaa")
        await embed.query("aaaa")
        spent = embed.spending
    assert (spent.texts_asked, spent.texts_sent) == (10, 6)
    assert (spent.calls_sent, spent.calls_asked) == (model.calls, 8)
    assert (spent.tokens_told, spent.characters_told) == (12, 24)
    saved = savings([Snapshot({"search": KindCounts(saved_s=1.5)}, spending=spent)], price=3.0)
    assert (saved.texts, saved.calls, saved.tokens) == (4, 3, 8)
    assert (saved.tokens_sent, saved.tokens_estimated) == (12, False)
    assert (saved.ms, saved.money) == (1500.0, pytest.approx(8 * 3 / 1e6))


async def test_where_no_server_tells_tokens_are_estimated():
    spent = Spending(texts_asked=3, texts_sent=1, characters_asked=1200, characters_sent=400)
    saved = savings([Snapshot({}, spending=spent)] * 2, price=0.0)
    assert (saved.texts, saved.tokens, saved.tokens_sent) == (4, 400, 200)
    assert saved.tokens_estimated
    assert saved.money is None
