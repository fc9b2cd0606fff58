"""What every `Embedder` must do, whatever it asks: inherit `EmbedderSuite`, give it `make`."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
import pytest_asyncio

from querycache.errors import EmbedderError
from querycache.ports.origins import Embedder

if TYPE_CHECKING:
    from querycache.ports.origins import Vectors

Make = Callable[[], Embedder]

_LINE = (
    "parse request session cookie getHTTPResponse user_name index of the open file and read "
    "bytes vector cache 世界 größe 🙂 def return self != -> {} 0x7f3a"
)
WORDS = _LINE.split()

ODD_TEXTS = ("\x00", "\ud800", "🙂", "->", "\u200b", "é\u0301", "x" * 20_000, "a b " * 5_000)


def some_texts(seed: int, count: int) -> list[str]:
    choose = random.Random(seed)  # noqa: S311 -- texts, not secrets
    return [" ".join(choose.choices(WORDS, k=choose.randint(1, 60))) for _ in range(count)]


class EmbedderSuite:
    """Subclasses override the fixture `make`: a new embedder, not started, on each call."""

    batch_of = 40

    @pytest.fixture
    def make(self) -> Make:
        raise NotImplementedError

    @pytest_asyncio.fixture
    async def embedder(self, make: Make) -> AsyncIterator[Embedder]:
        embedder = make()
        await embedder.start()
        yield embedder
        await embedder.close()

    @pytest.mark.asyncio
    async def test_says_nothing_before_it_is_started(self, make: Make) -> None:
        embedder = make()
        with pytest.raises(EmbedderError) as identity:
            _ = embedder.identity
        with pytest.raises(EmbedderError):
            _ = embedder.dimensions
        assert identity.value.remedy

    @pytest.mark.asyncio
    async def test_starts_once_for_all_who_ask_at_once(self, make: Make) -> None:
        embedder = make()
        await asyncio.gather(*(embedder.start() for _ in range(8)))
        identity = embedder.identity
        await embedder.start()
        assert embedder.identity == identity
        assert embedder.dimensions > 0
        assert embedder.batch > 0
        assert embedder.name
        await embedder.close()

    @pytest.mark.asyncio
    async def test_gives_one_unit_row_for_each_text_in_order(self, embedder: Embedder) -> None:
        texts = some_texts(1, self.batch_of)
        rows = await embedder.embed(texts, "document")
        assert rows.shape == (len(texts), embedder.dimensions)
        assert rows.dtype == np.float32
        assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-5
        backwards = await embedder.embed(texts[::-1], "document")
        assert np.array_equal(backwards[::-1], rows)

    @pytest.mark.asyncio
    async def test_a_vector_does_not_depend_on_its_neighbours(self, embedder: Embedder) -> None:
        texts = some_texts(2, self.batch_of)
        together = await embedder.embed(texts, "document")
        for place in range(0, len(texts), 7):
            alone = await embedder.embed([texts[place]], "document")
            assert np.array_equal(alone[0], together[place]), texts[place]

    @pytest.mark.asyncio
    async def test_a_text_without_content_is_a_row_of_zeros(self, embedder: Embedder) -> None:
        rows = await embedder.embed(["", "open file", " \n\t", "\u3000"], "document")
        assert [bool(row.any()) for row in rows] == [False, True, False, False]

    @pytest.mark.asyncio
    async def test_no_text_gives_no_row(self, embedder: Embedder) -> None:
        assert (await embedder.embed([], "query")).shape == (0, embedder.dimensions)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("text", ODD_TEXTS, ids=lambda text: ascii(text[:6]))
    async def test_odd_texts_give_finite_unit_rows(self, embedder: Embedder, text: str) -> None:
        row = (await embedder.embed([text], "document"))[0]
        assert np.isfinite(row).all()
        assert abs(float(np.linalg.norm(row)) - 1) < 1e-5

    @pytest.mark.asyncio
    async def test_equal_identities_give_equal_vectors(
        self, embedder: Embedder, make: Make
    ) -> None:
        other = make()
        await other.start()
        texts = some_texts(3, 5)
        assert other.identity == embedder.identity
        ours, theirs = await embedder.embed(texts, "query"), await other.embed(texts, "query")
        assert np.array_equal(ours, theirs)
        await other.close()

    @pytest.mark.asyncio
    async def test_what_is_alike_is_closer(self, embedder: Embedder) -> None:
        rows = await embedder.embed(
            [
                "open the file and read its lines",
                "read lines of the open file",
                "sign a session cookie with a secret key",
            ],
            "document",
        )
        assert rows[0] @ rows[1] > rows[0] @ rows[2]

    @pytest.mark.asyncio
    async def test_starts_again_after_it_was_closed(self, embedder: Embedder) -> None:
        before = await embedder.embed(["open file"], "query")
        await embedder.close()
        await embedder.close()
        await embedder.start()
        assert np.array_equal(await embedder.embed(["open file"], "query"), before)

    @pytest.mark.asyncio
    async def test_serves_another_event_loop(self, embedder: Embedder) -> None:
        here = await embedder.embed(["open file"], "query")
        there: list[Vectors] = []

        async def ask() -> None:
            there.append(await embedder.embed(["open file"], "query"))
            await embedder.close()

        thread = threading.Thread(target=lambda: asyncio.run(ask()))
        thread.start()
        await asyncio.to_thread(thread.join, 20)
        assert np.array_equal(there[0], here)
        assert np.array_equal(await embedder.embed(["open file"], "query"), here)
