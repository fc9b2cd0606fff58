"""The default embedding model: a table of word-piece vectors that comes with a package.

A text's vector is the mean of the vectors of its word pieces (wordllama's `l2_supercat_256`, 256
dimensions), so it needs no network, no GPU and some tens of microseconds. The package is only
where the files lie: it is never imported, since importing it configures the root logger and its
own loader looks for the tokenizer in a folder that its wheel does not have.

Each text is averaged by itself, in one fixed order: a vector depends on its text alone, to the
bit, whatever its neighbours in a batch.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load
from tokenizers import Tokenizer

from querycache.errors import EmbedderError
from querycache.origins import identifiers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from querycache.ports.origins import Role, Vectors

_PACKAGE: Final = "wordllama"
_WEIGHTS: Final = Path("weights", "l2_supercat_256.safetensors")
_TOKENIZER: Final = Path("tokenizers", "l2_supercat_tokenizer_config.json")
_TENSOR: Final = "embedding.weight"
_REMEDY: Final = "pip install --force-reinstall wordllama==0.4.0.post1"

_INLINE: Final = 4_000
"""Characters that are embedded on the event loop (about 1 ms); more go to a thread."""

_SLICE: Final = 64
"""Texts that are tokenised at once: bounds the memory, and how long a thread keeps others out."""

_BLOCK: Final = 4_096
"""Word pieces that are added up at once; bounds the memory of a huge text (4 MB a block)."""


class _Model(NamedTuple):
    identity: str
    tokenizer: Tokenizer
    table: NDArray[np.float32]


class LocalEmbedder:
    """Means of word-piece vectors, of the words and the parts of compound names, in lower case.

    The same for both roles. The files are looked for in the installed package, or in `folder`.
    """

    name = "local"
    batch = 256

    def __init__(self, *, folder: Path | None = None) -> None:
        self._folder = folder
        self._model: _Model | None = None
        self._loading = threading.Lock()

    @property
    def identity(self) -> str:
        """Name, hash of weights and tokenizer, dimensions, preprocessing."""
        return self._started().identity

    @property
    def dimensions(self) -> int:
        return self._started().table.shape[1]

    async def start(self) -> None:
        """Reads 18 MB in a thread, once; whoever comes meanwhile waits for the same load."""
        if self._model is None:
            await asyncio.to_thread(self._load)

    async def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        """Unit rows; a text of white space alone gives a row of zeros."""
        del role  # one space of vectors for both
        await self.start()
        model = self._started()
        if sum(map(len, texts)) <= _INLINE:
            return _embed(model, texts)
        return await asyncio.to_thread(_embed, model, texts)

    async def close(self) -> None:
        """Lets the table go; `start` would read it again."""
        self._model = None

    def _started(self) -> _Model:
        if self._model is None:
            raise EmbedderError(
                "the local embedding model is not loaded", remedy="await start() first"
            )
        return self._model

    def _load(self) -> None:
        with self._loading:
            if self._model is None:
                self._model = _read(self._folder or _locate())


def _locate() -> Path:
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EmbedderError(
            f"the package {_PACKAGE}, which brings the local embedding model, is not installed",
            remedy=_REMEDY,
        )
    return Path(spec.submodule_search_locations[0])


def _read(folder: Path) -> _Model:
    try:
        weights = (folder / _WEIGHTS).read_bytes()
        words = (folder / _TOKENIZER).read_bytes()
        table = load(weights)[_TENSOR].astype(np.float32)
        tokenizer = Tokenizer.from_buffer(words)
    except OSError as error:
        message = f"the local embedding model can't be read: {error}"
        raise EmbedderError(message, remedy=_REMEDY) from error
    except (SafetensorError, KeyError, ValueError) as error:
        message = f"the local embedding model in {folder} is damaged: {error}"
        raise EmbedderError(message, remedy=_REMEDY) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    print_ = sha256(weights + words).hexdigest()[:16]
    identity = f"local:{_WEIGHTS.stem}:{print_}:{table.shape[1]}:{identifiers.VERSION}"
    return _Model(identity, tokenizer, table)


def _prepared(text: str) -> str:
    """The words, or the text itself where it has none ("->"); lone surrogates replaced."""
    words = identifiers.split_identifiers(text).lower() or text.strip()
    return words.encode("utf-8", "replace").decode()


def _embed(model: _Model, texts: Sequence[str]) -> Vectors:
    rows = np.zeros((len(texts), model.table.shape[1]), np.float32)
    for start in range(0, len(texts), _SLICE):
        prepared = [_prepared(text) for text in texts[start : start + _SLICE]]
        encodings = model.tokenizer.encode_batch_fast(prepared, add_special_tokens=False)
        for row, encoding in enumerate(encodings, start):
            if encoding.ids:
                rows[row] = _unit_mean(model.table, encoding.ids)
    return rows


def _unit_mean(table: NDArray[np.float32], pieces: list[int]) -> NDArray[np.float32]:
    total = table[pieces[:_BLOCK]].sum(0)
    for start in range(_BLOCK, len(pieces), _BLOCK):
        total += table[pieces[start : start + _BLOCK]].sum(0)
    # The length in float64: its sum is then exact enough to round to the same float32 anywhere.
    length = np.sqrt(np.square(total, dtype=np.float64).sum())
    return total if length == 0 else (total / length).astype(np.float32)
