"""Embed texts through their cache: a text is paid for once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from querycache.cache.catalogue.embeddings import EmbeddingKey
from querycache.cache.typed import TypedCache
from querycache.ports.origins import Embedded, Embedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]


class EmbedTexts:
    """One model behind one cache. Starts the model when it is first needed."""

    def __init__(
        self, embedder: Embedder, cache: TypedCache[EmbeddingKey, Vector], batch_size: int
    ) -> None:
        self.embedder = embedder
        self._cache = cache
        self._batch_size = batch_size

    async def identity(self) -> str:
        """The name of the model and of all that its vectors depend on."""
        await self.embedder.start()
        return self.embedder.identity

    async def query(self, text: str) -> bytes:
        """A question's vector, as float32 bytes."""
        key = EmbeddingKey(await self.identity(), "query", text)

        async def load() -> Vector:
            return (await self.embedder.embed([text], "query"))[0]

        return (await self._cache.get_or_load(key, load)).tobytes()

    async def documents(self, texts: Sequence[str]) -> Embedded:
        """Vectors of many texts. What the cache lacks is sent to the model in its own batches."""
        identity = await self.identity()
        sent = 0

        async def load(missing: list[EmbeddingKey]) -> dict[EmbeddingKey, Vector]:
            nonlocal sent
            sent += len(missing)
            rows = await self.embedder.embed([key.text for key in missing], "document")
            return dict(zip(missing, rows, strict=True))

        vectors: dict[str, bytes] = {}
        unique = list(dict.fromkeys(texts))
        for start in range(0, len(unique), self._batch_size):
            part = unique[start : start + self._batch_size]
            keys = [EmbeddingKey(identity, "document", text) for text in part]
            answers = await self._cache.answer_many(keys, load, to_l1=False)
            vectors |= {key.text: answer.value.tobytes() for key, answer in answers.items()}
        return Embedded(vectors, sent, len(unique) - sent)
