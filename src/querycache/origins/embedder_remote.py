"""An embedding model behind HTTP: any server that speaks OpenAI's `/v1/embeddings`, or Ollama.

What can go wrong, and what is done:
* refused, dropped, 408, 429, 5xx: asked again, up to `_ATTEMPTS` times, after the server's
  Retry-After or a doubling wait with jitter (a herd of clients spreads out);
* too slow: an error at once, since asking again would load a slow server more;
* any other status, a redirect (the key would follow it), an answer that is too large or isn't what
  was asked for: an error that names the address, the status and the server's words, never the key.

Connections belong to the event loop that opened them, so each loop has its own client. What was
learnt by the probe, dimensions and identity, belongs to the process.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

import httpx2
import numpy as np

from querycache.clock import Clock
from querycache.errors import ConfigError, EmbedderError
from querycache.origins import embedding_wire as wire
from querycache.ports.spending import Usage

if TYPE_CHECKING:
    from querycache.ports.origins import Role, Vectors

_ATTEMPTS: Final = 4
_FIRST_WAIT: Final = 0.5
"""Seconds before the second attempt; doubled for each further one."""
_LONGEST_WAIT: Final = 30.0
"""Seconds; a server that asks for more gets an error instead of a caller that hangs."""
_CONNECT_TIMEOUT: Final = 5.0
_ERROR_BYTES: Final = 1 << 16
_INLINE_BYTES: Final = 1 << 17
"""An answer beyond this is decoded in a thread (a 64 x 1,536 answer takes some 10 ms)."""

_PROBE: Final = "def parse_response(body: bytes) -> Response: read what the server said"
_PREPROCESSING: Final = "text-1"

_OK: Final = 200
_TOO_SLOW: Final = 408
_SLOW_DOWN: Final = 429
_BROKEN: Final = 500
_REMEDIES: Final[Mapping[int, str]] = {
    400: "check QUERYCACHE_EMBEDDER_MODEL and _DIMENSIONS, and that texts fit the model's context",
    401: "set QUERYCACHE_EMBEDDER_API_KEY to a key that this server knows",
    403: "set QUERYCACHE_EMBEDDER_API_KEY to a key that may use this model",
    404: "check QUERYCACHE_EMBEDDER_URL and _MODEL (Ollama: `ollama pull` the model)",
    413: "lower QUERYCACHE_EMBEDDER_BATCH",
    _SLOW_DOWN: "wait, or lower QUERYCACHE_EMBEDDER_BATCH",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteSettings:
    """Which server, which model. Raises `ConfigError`.

    `dimensions` 0: as the model has them. A prefix goes before each text of its role, for models
    that were trained with one ("search_query: ").
    """

    dialect: wire.Dialect
    url: str
    model: str
    api_key: str = field(default="", repr=False)
    dimensions: int = 0
    batch: int = 64
    timeout_s: float = 30.0
    query_prefix: str = ""
    document_prefix: str = ""

    def __post_init__(self) -> None:
        wire.endpoint(self.dialect, self.url)
        if not self.model:
            raise ConfigError("no embedding model named", remedy="set QUERYCACHE_EMBEDDER_MODEL")
        if self.batch < 1 or self.timeout_s <= 0 or self.dimensions < 0:
            raise ConfigError("the embedder's batch, time-out or dimensions is out of range")
        if not self.api_key.isascii() or any(not "!" <= c <= "~" for c in self.api_key):
            raise ConfigError(
                "the embedder's API key has a character that no header may have",
                remedy="set QUERYCACHE_EMBEDDER_API_KEY without quotes, spaces or line ends",
            )


class _Model(NamedTuple):
    identity: str
    dimensions: int


class _Link(NamedTuple):
    """One event loop's part: its connections, and the right to probe."""

    client: httpx2.AsyncClient
    probing: asyncio.Lock


class _PassingError(Exception):
    """A failure that may be gone the next time; `wait` is the server's own wish in seconds."""

    def __init__(self, message: str, status: int = 0, wait: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.wait = wait


class RemoteEmbedder:
    """Asks a server, in batches, and checks all that comes back."""

    def __init__(self, settings: RemoteSettings, clock: Clock) -> None:
        self.name: str = settings.dialect
        self.batch = settings.batch
        self.url = wire.endpoint(settings.dialect, settings.url)
        self.usage = Usage()
        self._settings = settings
        self._clock = clock
        self._model: _Model | None = None
        self._links: dict[asyncio.AbstractEventLoop, _Link] = {}
        self._trust: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return f"RemoteEmbedder({self.url!r}, model={self._settings.model!r})"

    @property
    def identity(self) -> str:
        """Protocol, address, model, dimensions, preprocessing and prefixes, and the fingerprint of
        a fixed text's vector.
        """
        return self._started().identity

    @property
    def dimensions(self) -> int:
        return self._started().dimensions

    async def start(self) -> None:
        """Embeds one fixed text, once a process: a model that was swapped behind its name gets
        another identity.
        """
        if self._model is not None:
            return
        async with (await self._link()).probing:
            if self._model is None:
                model = self._described((await self._ask([_PROBE]))[0])
                self._model = self._model or model  # another loop may have been faster

    async def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        """Unit rows; a text of white space alone isn't sent and gives a row of zeros."""
        await self.start()
        rows = np.zeros((len(texts), self.dimensions), np.float32)
        full = [row for row, text in enumerate(texts) if text.strip()]
        prefix = {
            "query": self._settings.query_prefix,
            "document": self._settings.document_prefix,
        }[role]
        for start in range(0, len(full), self.batch):
            places = full[start : start + self.batch]
            found = await self._ask([_encodable(prefix + texts[row]) for row in places])
            if found.shape[1] != self.dimensions:
                raise self._error(
                    f"gave {found.shape[1]} dimensions, and {self.dimensions} before",
                    remedy="the model was changed: start again, and index anew",
                )
            rows[places] = found
        return rows

    async def close(self) -> None:
        """Closes the connections of the running loop; those of ended loops went with them."""
        link = self._links.pop(asyncio.get_running_loop(), None)
        if link is not None:
            await link.client.aclose()

    def _started(self) -> _Model:
        if self._model is None:
            raise self._error("was not asked yet", remedy="await start() first")
        return self._model

    def _described(self, probe: Vectors) -> _Model:
        wanted = self._settings.dimensions
        if wanted and len(probe) != wanted:
            raise self._error(
                f"gave {len(probe)} dimensions where {wanted} were asked for",
                remedy="set QUERYCACHE_EMBEDDER_DIMENSIONS to what the model gives, or unset it",
            )
        parts = (
            self._settings.model,
            str(len(probe)),
            _PREPROCESSING,
            self._settings.query_prefix,
            self._settings.document_prefix,
            wire.fingerprint(probe),
        )
        coded = " ".join(quote(part, safe=":/", errors="surrogatepass") for part in parts)
        return _Model(f"{self.name} {self.url} {coded}", len(probe))

    async def _link(self) -> _Link:
        loop = asyncio.get_running_loop()
        for ended in [known for known in self._links if known.is_closed()]:
            self._links.pop(ended, None)
        if loop not in self._links:
            trust = await self._trusted()
            if loop not in self._links:  # another caller may have been faster
                self._links[loop] = _Link(self._client(trust), asyncio.Lock())
        return self._links[loop]

    async def _trusted(self) -> ssl.SSLContext:
        """Whom to trust; reading the list of authorities takes 0.1 s, so a thread does it."""
        if self._trust is None:
            if self.url.startswith("https:"):
                self._trust = await asyncio.to_thread(httpx2.create_ssl_context)
            else:
                self._trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # no one: it's not used
        return self._trust

    def _client(self, trust: ssl.SSLContext) -> httpx2.AsyncClient:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self._settings.api_key:
            headers["Authorization"] = f"Bearer {self._settings.api_key}"
        timeout = httpx2.Timeout(
            self._settings.timeout_s, connect=min(_CONNECT_TIMEOUT, self._settings.timeout_s)
        )
        return httpx2.AsyncClient(
            headers=headers, timeout=timeout, follow_redirects=False, verify=trust
        )

    async def _ask(self, texts: Sequence[str]) -> Vectors:
        settings = self._settings
        body = wire.question(settings.dialect, settings.model, texts, settings.dimensions)
        answer = await self._post_patiently(body, wire.answer_limit(len(texts)))
        try:
            if len(answer) <= _INLINE_BYTES:
                read = wire.answered(settings.dialect, answer, len(texts))
            else:
                read = await asyncio.to_thread(wire.answered, settings.dialect, answer, len(texts))
        except wire.BadAnswerError as error:
            raise self._error(
                f"gave {self._clean(str(error))}",
                remedy="check that QUERYCACHE_EMBEDDER_URL is an embedding server of this kind",
            ) from error
        if read.tokens:
            self.usage.tokens += read.tokens
            self.usage.characters += sum(map(len, texts))
        return read.rows

    async def _post_patiently(self, body: bytes, limit: int) -> bytes:
        attempt = 1
        while True:
            try:
                return await self._post(body, limit)
            except _PassingError as failure:
                wait = failure.wait
                if wait is None:
                    spread = 0.5 + random.random() / 2  # noqa: S311 -- spreads clients, no secret
                    wait = _FIRST_WAIT * 2 ** (attempt - 1) * spread
                if attempt == _ATTEMPTS or wait > _LONGEST_WAIT:
                    raise self._error(
                        f"{failure} ({attempt} attempts)",
                        remedy=_remedy(failure.status),
                    ) from failure
            await self._clock.sleep(wait)
            attempt += 1

    async def _post(self, body: bytes, limit: int) -> bytes:
        try:
            async with (
                asyncio.timeout(self._settings.timeout_s),
                (await self._link()).client.stream("POST", self.url, content=body) as response,
            ):
                if response.status_code != _OK:
                    raise await self._refusal(response)
                return await self._read(response, limit)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise _PassingError(f"can't be reached: {self._clean(str(error))}") from error
        except (httpx2.NetworkError, httpx2.RemoteProtocolError) as error:
            raise _PassingError(f"dropped the connection: {self._clean(str(error))}") from error
        except (TimeoutError, httpx2.TimeoutException) as error:
            raise self._error(
                f"did not answer within {self._settings.timeout_s:g} s",
                remedy="raise QUERYCACHE_EMBEDDER_TIMEOUT_S or lower QUERYCACHE_EMBEDDER_BATCH",
            ) from error
        except httpx2.HTTPError as error:
            raise self._error(f"failed: {self._clean(str(error))}") from error

    async def _read(self, response: httpx2.Response, limit: int) -> bytes:
        received = bytearray()
        async for piece in response.aiter_bytes():
            received += piece
            if len(received) > limit:
                raise self._error(
                    f"gave more than {limit:,} bytes",
                    remedy="check that QUERYCACHE_EMBEDDER_URL is an embedding server",
                )
        return bytes(received)

    async def _refusal(self, response: httpx2.Response) -> Exception:
        """The error for a status other than 200, `_PassingError` where asking again may help."""
        status = response.status_code
        received = bytearray()
        async for piece in response.aiter_bytes():
            received += piece
            if len(received) > _ERROR_BYTES:
                break
        if response.has_redirect_location:
            target = self._clean(response.headers.get("Location", ""))
            return self._error(
                f"answered {status}, a redirect to {target}",
                remedy="set QUERYCACHE_EMBEDDER_URL to where the server really is",
            )
        message = f"answered {status}: {self._clean(bytes(received))}"
        if status in {_TOO_SLOW, _SLOW_DOWN} or status >= _BROKEN:
            return _PassingError(message, status, self._wish(response))
        return self._error(message, remedy=_remedy(status))

    def _wish(self, response: httpx2.Response) -> float | None:
        """Retry-After in seconds (RFC 9110, 10.2.3), given as such or as a date."""
        value = response.headers.get("Retry-After", "").strip()
        if value.isdecimal():
            return float(value)
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - self._clock.wall())
        except ValueError:
            return None

    def _clean(self, said: bytes | str) -> str:
        data = said if isinstance(said, bytes) else said.encode("utf-8", "replace")
        return wire.words_of(data, self._settings.api_key)

    def _error(self, what: str, *, remedy: str = "") -> EmbedderError:
        return EmbedderError(f"the embedding server {self.url} {what}", remedy=remedy)


def _remedy(status: int) -> str:
    if not status:
        return "check that the server is running, and QUERYCACHE_EMBEDDER_URL"
    return _REMEDIES.get(status, "see the server's own log")


def _encodable(text: str) -> str:
    """Lone surrogates, which no JSON can carry, replaced."""
    return text.encode("utf-8", "replace").decode()
