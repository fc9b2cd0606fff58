"""The guard in front of every route: who may ask, with what, and how much.

A page in the user's browser can reach a loopback port, so a request is served only if its Host is
one of ours (after DNS rebinding the browser believes that everything is of the same origin), its
Origin, if any, too, and if it changes something it is a POST or DELETE of JSON, which no foreign
page can send without a preflight; no CORS header is ever sent. Without a token only this machine
is served; with one, whoever presents it.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import re
from collections.abc import Iterable
from hashlib import sha256
from http import HTTPStatus

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from querycache.doors.http_api.wire import Error, Failed

LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")
MOST_BODY_BYTES = 4 * 1024 * 1024
MOST_HEAD_BYTES = 16 * 1024
BODY_WITHIN_S = 10.0

_HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9_.-]{1,253})(?::([0-9]{1,5}))?", re.IGNORECASE)
_ORIGIN = re.compile(rf"(https?)://{_HOST.pattern}", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SAME_SITE = {"same-origin", "none"}
_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (
        b"content-security-policy",
        b"default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
)
_OURS = {name for name, _ in _SECURITY}

_logger = logging.getLogger(__name__)


class Refusal(msgspec.Struct, frozen=True):
    """Why a request is not served."""

    status: HTTPStatus
    name: str
    message: str
    remedy: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()


class _RefusedError(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Guard:
    """ASGI middleware. `names` are the host names that are ours (an IPv6 address in brackets);
    `token` is what every request must present but those for health and for `open_pages`, which
    hold nothing that is anybody's; "" for none.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        names: Iterable[str] = LOCAL_NAMES,
        token: str,
        open_pages: Iterable[str] = (),
    ) -> None:
        self._app = app
        self._names = frozenset(name.lower() for name in names)
        self._token = sha256(token.encode()).digest() if token else b""
        self._open_pages = frozenset(open_pages)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        # anything else (a WebSocket) ends here, unanswered: the server closes it

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def sealed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                kept = [
                    pair for pair in message.get("headers", ()) if pair[0].lower() not in _OURS
                ]
                message = {**message, "headers": [*kept, *_SECURITY]}
            await send(message)

        try:
            refusal = self.refusal(scope)
            if refusal is None:
                await self._app(scope, await _received(scope, receive), sealed)
            else:
                await _refuse(sealed, refusal)
        except _RefusedError as refused:
            await _refuse(sealed, refused.refusal)
        except ConnectionAbortedError:
            return
        except Exception:
            _logger.exception("%s %r failed", scope["method"], scope["path"])
            if not started:
                await _refuse(sealed, UNEXPECTED)

    def refusal(self, scope: Scope) -> Refusal | None:
        """Why a request of this head is not served, or None. Pure."""
        headers = _Head(scope)
        return (
            self._wrong_place(headers, scope)
            or self._wrong_person(headers, scope)
            or _wrong_shape(headers, scope)
        )

    def _wrong_place(self, headers: _Head, scope: Scope) -> Refusal | None:
        server = scope.get("server")
        port: int | None = server[1] if server else None
        hosts = headers.of("host")
        if len(hosts) != 1 or not self._is_ours(_HOST.fullmatch(hosts[0]), port):
            return Refusal(
                HTTPStatus.MISDIRECTED_REQUEST,
                "WrongHost",
                "this Host is not served here",
                f"ask for {' or '.join(LOCAL_NAMES)}, or a name that the server was given",
            )
        if any(not self._is_own_page(origin, port) for origin in headers.of("origin")):
            return Refusal(
                HTTPStatus.FORBIDDEN, "ForeignOrigin", "pages of other origins are not served"
            )
        if any(site not in _SAME_SITE for site in headers.of("sec-fetch-site")):
            return Refusal(
                HTTPStatus.FORBIDDEN, "CrossSite", "requests from other sites are not served"
            )
        return None

    def _is_ours(self, host: re.Match[str] | None, port: int | None) -> bool:
        if host is None or host[1].lower() not in self._names:
            return False
        return host[2] is None or int(host[2]) == port

    def _is_own_page(self, origin: str, port: int | None) -> bool:
        found = _ORIGIN.fullmatch(origin)
        if found is None or found[2].lower() not in self._names:
            return False
        return int(found[3] or _DEFAULT_PORTS[found[1].lower()]) == port

    def _wrong_person(self, headers: _Head, scope: Scope) -> Refusal | None:
        near = _is_near(scope)
        if not self._token:
            if near:
                return None
            return Refusal(
                HTTPStatus.FORBIDDEN,
                "NotLocal",
                "without a token only this machine is served",
                "set QUERYCACHE_TOKEN where the server runs",
            )
        path: str = scope["path"]
        if path == "/health/live" or (near and path.startswith("/health/")):
            return None
        if path in self._open_pages and scope["method"] in {"GET", "HEAD"}:
            return None
        given = headers.of("authorization")
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        digest = sha256(token.strip().encode("latin-1", "replace")).digest()
        if hmac.compare_digest(digest, self._token) and scheme.lower() == "bearer":
            return None
        challenge = b'Bearer realm="querycache"' + (b', error="invalid_token"' if given else b"")
        return Refusal(
            HTTPStatus.UNAUTHORIZED,
            "Unauthorized",
            "this token is not valid" if given else "a token is needed",
            "send `Authorization: Bearer` with the value of QUERYCACHE_TOKEN",
            headers=((b"www-authenticate", challenge),),
        )


class _Head:
    """The headers of a request by name; each may be there more than once."""

    def __init__(self, scope: Scope) -> None:
        self._pairs: list[tuple[bytes, bytes]] = scope["headers"]
        self.size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        self.size += sum(len(name) + len(value) + 4 for name, value in self._pairs)

    def of(self, name: str) -> list[str]:
        wanted = name.encode()
        return [value.decode("latin-1") for key, value in self._pairs if key == wanted]

    @property
    def has_body(self) -> bool:
        return bool(self.of("transfer-encoding")) or any(
            length.strip("0 ") for length in self.of("content-length")
        )


def _wrong_shape(headers: _Head, scope: Scope) -> Refusal | None:
    if headers.size > MOST_HEAD_BYTES:
        return Refusal(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            "HeadTooLarge",
            f"address and headers are larger than {MOST_HEAD_BYTES} bytes",
        )
    types = [value.partition(";")[0].strip().lower() for value in headers.of("content-type")]
    if (scope["method"] == "POST" or headers.has_body) and types != ["application/json"]:
        return Refusal(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "NotJson",
            "only JSON is read",
            "send `Content-Type: application/json`",
        )
    if any(not _fits(length) for length in headers.of("content-length")):
        return _TOO_LARGE
    return None


def _fits(length: str) -> bool:
    return length.strip().isdecimal() and int(length) <= MOST_BODY_BYTES


def _is_near(scope: Scope) -> bool:
    """Whether the peer is on this machine (a Unix socket has no address)."""
    client = scope.get("client")
    if client is None:
        return True
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


async def _received(scope: Scope, receive: Receive) -> Receive:
    """A `receive` that hands out the whole body at once, read here within its bounds."""
    if not _Head(scope).has_body:
        return receive
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            more = True
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise ConnectionAbortedError  # the client left
                body += message.get("body", b"")
                if len(body) > MOST_BODY_BYTES:
                    raise _RefusedError(_TOO_LARGE)
                more = message.get("more_body", False)
    except TimeoutError:
        raise _RefusedError(_TOO_SLOW) from None
    whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def replay() -> Message:
        return whole.pop() if whole else await receive()

    return replay


async def _refuse(send: Send, refusal: Refusal) -> None:
    body = failure(refusal.name, refusal.message, refusal.remedy)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # what is left of the request is not read
        *refusal.headers,
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def failure(name: str, message: str, remedy: str = "") -> bytes:
    """An error as it is sent."""
    return msgspec.json.encode(Failed(Error(name, message, remedy)))


UNEXPECTED = Refusal(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "InternalError",
    "something failed here",
    "look into the server's log",
)
_TOO_LARGE = Refusal(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "TooLarge", f"a body may have {MOST_BODY_BYTES} bytes"
)
_TOO_SLOW = Refusal(
    HTTPStatus.REQUEST_TIMEOUT, "TooSlow", f"the body did not arrive within {BODY_WITHIN_S:g} s"
)
