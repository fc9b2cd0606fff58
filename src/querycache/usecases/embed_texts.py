"""Embed texts through their cache: a text is paid for once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import structs

from querycache.cache.catalogue.embeddings import EmbeddingKey
from querycache.cache.typed import TypedCache
from querycache.ports.origins import Embedded, Embedder
from querycache.ports.spending import Spending, Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]


class EmbedTexts:
    """One model behind one cache. Starts the model when it is first needed."""

    def __init__(
        self,
        embedder: Embedder,
        cache: TypedCache[EmbeddingKey, Vector],
        batch_size: int,
        usage: Usage | None = None,
    ) -> None:
        """`usage` is what the model's server tells of what it read, where one tells."""
        self._spending = Spending()
        self._usage = usage or Usage()
        self.embedder = embedder
        self._cache = cache
        self._batch_size = batch_size

    async def identity(self) -> str:
        """The name of the model and of all that its vectors depend on."""
        await self.embedder.start()
        return self.embedder.identity

    @property
    def spending(self) -> Spending:
        """What callers asked for so far, and what was sent to the model."""
        used = self._usage
        return structs.replace(
            self._spending, tokens_told=used.tokens, characters_told=used.characters
        )

    async def query(self, text: str) -> bytes:
        """A question's vector, as float32 bytes."""
        key = EmbeddingKey(await self.identity(), "query", text)
        self._asked([text])

        async def load() -> Vector:
            self._sent([text])
            return (await self.embedder.embed([text], "query"))[0]

        return (await self._cache.get_or_load(key, load)).tobytes()

    async def documents(self, texts: Sequence[str]) -> Embedded:
        """Vectors of many texts. What the cache lacks is sent to the model in its own batches."""
        identity = await self.identity()
        sent = 0

        async def load(missing: list[EmbeddingKey]) -> dict[EmbeddingKey, Vector]:
            nonlocal sent
            sent += len(missing)
            new = [key.text for key in missing]
            self._sent(new)
            rows = await self.embedder.embed(new, "document")
            return dict(zip(missing, rows, strict=True))

        vectors: dict[str, bytes] = {}
        unique = list(dict.fromkeys(texts))
        for start in range(0, len(unique), self._batch_size):
            part = unique[start : start + self._batch_size]
            self._asked(part)
            keys = [EmbeddingKey(identity, "document", text) for text in part]
            answers = await self._cache.answer_many(keys, load, to_l1=False)
            vectors |= {key.text: answer.value.tobytes() for key, answer in answers.items()}
        return Embedded(vectors, sent, len(unique) - sent)

    def _asked(self, texts: Sequence[str]) -> None:
        spending = self._spending
        spending.texts_asked += len(texts)
        spending.calls_asked += -(-len(texts) // self.embedder.batch)
        spending.characters_asked += sum(map(len, texts))

    def _sent(self, texts: Sequence[str]) -> None:
        spending = self._spending
        spending.texts_sent += len(texts)
        spending.calls_sent += -(-len(texts) // self.embedder.batch)
        spending.characters_sent += sum(map(len, texts))
