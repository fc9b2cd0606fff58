"""An embedding server on this machine: both protocols over real sockets, and every way to fail.

Its vectors are sums of word vectors drawn from a hash, so equal texts give equal vectors and alike
texts are close. Each request takes the next answer of the `script`, and a good one once that is
used up.
"""

from __future__ import annotations

import base64
import gzip
import json
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

Json = dict[str, Any]


@lru_cache(4_096)
def _word(seed: bytes, dimensions: int) -> NDArray[np.float64]:
    return np.random.RandomState(struct.unpack("<I", seed)[0]).standard_normal(dimensions)


def vector_of(text: str, dimensions: int, model: str) -> list[float]:
    """Of any length, as some servers give them."""
    total = np.zeros(dimensions)
    for word in text.lower().split() or [""]:
        seed = blake2b(f"{model} {word}".encode("utf-8", "replace"), digest_size=4).digest()
        total += _word(seed, dimensions)
    return total.tolist()


class Request:
    """A request as it came in."""

    def __init__(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.path = path
        self.headers = headers
        self.json = cast("Json", json.loads(body))

    @property
    def texts(self) -> list[str]:
        return cast("list[str]", self.json["input"])


class Exchange:
    """One request, and the means to answer it."""

    def __init__(self, handler: BaseHTTPRequestHandler, request: Request, server: Server) -> None:
        self.request = request
        self.server = server
        self._handler = handler

    def vectors(self) -> list[list[float]]:
        model = cast("str", self.request.json["model"]) + self.server.weights
        size = cast("int", self.request.json.get("dimensions", self.server.dimensions))
        return [vector_of(text, size, model) for text in self.request.texts]

    def send(self, status: int, body: bytes, headers: Sequence[tuple[str, str]] = ()) -> None:
        self._handler.send_response(status)
        for name, value in headers:
            self._handler.send_header(name, value)
        self._handler.send_header("Content-Length", str(len(body)))
        self._handler.end_headers()
        self._handler.wfile.write(body)

    def say(self, answer: object, status: int = 200) -> None:
        self.send(status, json.dumps(answer).encode(), [("Content-Type", "application/json")])

    def give(self, vectors: Sequence[object]) -> None:
        """Vectors in the request's own protocol."""
        if self.request.path.endswith("/api/embed"):
            self.say({"model": self.request.json["model"], "embeddings": vectors})
        else:
            self.say({"data": items(vectors), "model": self.request.json["model"]})

    def drop(self) -> None:
        """Hangs up without a word."""
        self._handler.close_connection = True
        self._handler.connection.shutdown(socket.SHUT_RDWR)


Answer = Callable[[Exchange], None]


def items(vectors: Sequence[object]) -> list[Json]:
    return [
        {"object": "embedding", "index": place, "embedding": vector}
        for place, vector in enumerate(vectors)
    ]


def well(exchange: Exchange) -> None:
    exchange.give(exchange.vectors())


def out_of_order(exchange: Exchange) -> None:
    exchange.say({"data": items(exchange.vectors())[::-1]})


def without_index(exchange: Exchange) -> None:
    exchange.say({"data": [{"embedding": vector} for vector in exchange.vectors()]})


def in_base64(exchange: Exchange) -> None:
    packed = [
        base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        for vector in exchange.vectors()
    ]
    exchange.say({"data": items(packed)})


def compressed(exchange: Exchange) -> None:
    body = gzip.compress(json.dumps({"data": items(exchange.vectors())}).encode())
    exchange.send(200, body, [("Content-Encoding", "gzip")])


def dropped(exchange: Exchange) -> None:
    exchange.drop()


def status(code: int, said: object = "no", **headers: str) -> Answer:
    """An error as these servers word it; `retry_after="1"` is the header Retry-After."""

    def answer(exchange: Exchange) -> None:
        named = [(name.replace("_", "-").title(), value) for name, value in headers.items()]
        exchange.send(code, json.dumps({"error": said}).encode(), named)

    return answer


def raw(body: bytes, code: int = 200) -> Answer:
    return lambda exchange: exchange.send(code, body)


def given(change: Callable[[list[list[float]]], Sequence[object]]) -> Answer:
    """A good answer, its vectors changed."""
    return lambda exchange: exchange.give(change(exchange.vectors()))


def slow(exchange: Exchange) -> None:
    """Says nothing until the server ends."""
    exchange.server.kept_waiting.set()
    exchange.server.ending.wait(20)
    exchange.drop()


class _HttpServer(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests; anything else is a fault of this file."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(cast("socket.socket", request), client_address)


class Server:
    """Serves on a port of its own while it is entered."""

    def __init__(self, dimensions: int = 48) -> None:
        self.dimensions = dimensions
        self.weights = ""
        self.requests: list[Request] = []
        self.kept_waiting = threading.Event()
        self.script: deque[Answer] = deque()
        self.ending = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one segment an answer: two would wait for each other for 40 ms

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = Request(self.path, dict(self.headers.items()), body)
                server.requests.append(request)
                if not request.path.endswith(("/v1/embeddings", "/api/embed")):
                    answer = status(404, "no such page")
                else:
                    answer = server.script.popleft() if server.script else well
                answer(Exchange(self, request, server))

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- its name
                """Quiet."""

        self._http = _HttpServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ending.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
