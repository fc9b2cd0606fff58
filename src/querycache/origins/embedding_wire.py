"""The two protocols of embedding servers, as plain functions: where to post, what, what it means.

`openai`: POST {base}/v1/embeddings, of OpenAI's API reference, which most servers speak. `ollama`:
POST {base}/api/embed, of Ollama's docs/api.md.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, cast
from urllib.parse import urlsplit, urlunsplit

import msgspec
import numpy as np

from querycache.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from querycache.ports.origins import Vectors

Dialect = Literal["openai", "ollama"]

_VERSIONED: Final = re.compile(r"/v\d")
_ANSWER_BASE: Final = 1 << 20
_ANSWER_PER_TEXT: Final = 1 << 18
_WORDS: Final = 300
_SIGNS: Final = 32


class BadAnswerError(ValueError):
    """An answer that isn't what was asked for."""


class _Item(msgspec.Struct):
    embedding: list[float] | str
    index: int = -1


class _OpenAIAnswer(msgspec.Struct):
    data: list[_Item]
    usage: object = None


class _OllamaAnswer(msgspec.Struct):
    embeddings: list[list[float]]
    prompt_eval_count: object = None


class Answered(NamedTuple):
    """Unit rows in the order of the question, and the tokens that the server says it read; 0 where
    it says nothing.
    """

    rows: Vectors
    tokens: int


class _ErrorText(msgspec.Struct):
    message: str


class _ErrorAnswer(msgspec.Struct):
    error: str | _ErrorText


def endpoint(dialect: Dialect, url: str) -> str:
    """The address to post to: `url` may be the server's root, its API's root or the address
    itself.

    Raises `ConfigError` for what is no plain http(s) address.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise ConfigError("the embedder's url is malformed", remedy=_URL_REMEDY) from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError("the embedder's url is no http(s) address", remedy=_URL_REMEDY)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            "the embedder's url has a user, a query or a fragment",
            remedy=f"{_URL_REMEDY}; a secret belongs in QUERYCACHE_EMBEDDER_API_KEY",
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = _openai_path(parts.path) if dialect == "openai" else _ollama_path(parts.path)
    return urlunsplit((parts.scheme, f"{host}:{port}" if port else host, path, "", ""))


_URL_REMEDY: Final = "set QUERYCACHE_EMBEDDER_URL, for example http://localhost:11434"


def _openai_path(path: str) -> str:
    path = path.rstrip("/")
    if path.endswith("/embeddings"):
        return path
    return f"{path}/embeddings" if _VERSIONED.search(path) else f"{path}/v1/embeddings"


def _ollama_path(path: str) -> str:
    path = path.rstrip("/").removesuffix("/api/embed").removesuffix("/api").removesuffix("/v1")
    return f"{path}/api/embed"


def question(dialect: Dialect, model: str, texts: Sequence[str], dimensions: int) -> bytes:
    """The request's body. `dimensions` 0: as the model has them."""
    body: dict[str, object] = {"model": model, "input": list(texts)}
    if dimensions:
        body["dimensions"] = dimensions
    if dialect == "openai":
        body["encoding_format"] = "float"
    else:
        body["truncate"] = False  # an error, rather than the vector of half a text
    return msgspec.json.encode(body)


def answer_limit(texts: int) -> int:
    """Bytes that an answer for so many texts may have: room for 8,192 dimensions in decimals."""
    return _ANSWER_BASE + texts * _ANSWER_PER_TEXT


def answered(dialect: Dialect, body: bytes, count: int) -> Answered:
    """Reads an answer for `count` texts. Raises `BadAnswerError`."""
    try:
        if dialect == "openai":
            openai = msgspec.json.decode(body, type=_OpenAIAnswer)
            found, used = _in_order(openai.data), openai.usage
            known = cast("dict[str, object]", used) if isinstance(used, dict) else {}
            tokens = known.get("prompt_tokens")
        else:
            ollama = msgspec.json.decode(body, type=_OllamaAnswer)
            found = [np.array(row, np.float64) for row in ollama.embeddings]
            tokens = ollama.prompt_eval_count
    except (msgspec.MsgspecError, UnicodeDecodeError, binascii.Error) as error:
        raise BadAnswerError(f"an answer that can't be read ({error})") from error
    if len(found) != count:
        raise BadAnswerError(f"{len(found)} vectors for {count} texts")
    lengths = sorted({len(row) for row in found})
    if len(lengths) != 1 or not lengths[0]:
        raise BadAnswerError(f"vectors of {lengths} dimensions")
    return Answered(
        _units(np.stack(found)), tokens if isinstance(tokens, int) and tokens > 0 else 0
    )


def _in_order(items: list[_Item]) -> list[NDArray[np.float64]]:
    if any(item.index != -1 for item in items):  # a few servers leave the index out
        items = sorted(items, key=lambda item: item.index)
        if [item.index for item in items] != list(range(len(items))):
            raise BadAnswerError("an index missing or given twice")
    return [_row(item.embedding) for item in items]


def _row(embedding: list[float] | str) -> NDArray[np.float64]:
    if not isinstance(embedding, str):
        return np.array(embedding, np.float64)
    data = b64decode(embedding, validate=True)
    if len(data) % 4:
        raise BadAnswerError("base64 that holds no float32 numbers")
    return np.frombuffer(data, "<f4").astype(np.float64)


def _units(rows: NDArray[np.float64]) -> Vectors:
    if not np.isfinite(rows).all():
        raise BadAnswerError("a number that is not finite")
    # Scaled first, so that no square of a finite number overflows or vanishes.
    largest = np.abs(rows).max(axis=1, keepdims=True)
    if not largest.all():
        raise BadAnswerError("a vector of zeros for a text that has content")
    rows = rows / largest
    return (rows / np.sqrt(np.square(rows).sum(axis=1, keepdims=True))).astype(np.float32)


def fingerprint(vector: NDArray[np.float32]) -> str:
    """8 hex digits that stay when a vector moves a little, and change when the model does.

    The signs of the sums of 32 interleaved groups of components. An error of angle e (radians)
    flips one with probability e/pi: 1 % of all vectors for e = 0.001, the noise of half-precision
    servers, of which nothing worse comes than texts embedded anew. Another model of the same
    dimensions passes for this one once in 2**32 times.
    """
    sums = [float(vector[group::_SIGNS].sum(dtype=np.float64)) for group in range(_SIGNS)]
    return np.packbits(np.array(sums) > 0).tobytes().hex()


def words_of(body: bytes, secret: str) -> str:
    """What the server said about a failure: one short line, without the secret."""
    try:
        error = msgspec.json.decode(body, type=_ErrorAnswer).error
        said = error if isinstance(error, str) else error.message
    except (msgspec.MsgspecError, UnicodeDecodeError):
        said = body.decode("utf-8", "replace")
    line = " ".join("".join(c if c.isprintable() else " " for c in said).split())
    if secret:
        line = line.replace(secret, "***")
    return line if len(line) <= _WORDS else f"{line[:_WORDS]}…"
