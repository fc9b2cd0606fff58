"""Qdrant's REST interface on this machine, as far as it is used: over real sockets, with the
client's model of a server behind it, and every way to fail.

Each operation takes its next answer from the `script`, and a good one once that is used up.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self, cast

from pydantic import BaseModel
from qdrant_client import QdrantClient, models

Json = dict[str, Any]


class Exchange:
    """One request, and the means to answer it."""

    def __init__(
        self, handler: BaseHTTPRequestHandler, server: Server, operation: str, body: Json
    ) -> None:
        self.server = server
        self.operation = operation
        self.body = body
        self._handler = handler
        self._name = handler.path.split("/")[2] if "collections" in handler.path else ""

    def result(self) -> Any:  # noqa: ANN401 -- many shapes
        """What a sound server gives."""
        with self.server.lock:
            return _OPERATIONS[self.operation](self.server.client, self._name, self.body)

    def send(self, status: int, body: bytes) -> None:
        self._handler.send_response(status)
        self._handler.send_header("Content-Type", "application/json")
        self._handler.send_header("Content-Length", str(len(body)))
        self._handler.end_headers()
        self._handler.wfile.write(body)

    def give(self, result: object) -> None:
        whole = result if self.operation == "info" else {"result": result, "status": "ok"}
        self.send(200, json.dumps(whole, default=_plain).encode())

    def drop(self) -> None:
        """Hangs up without a word."""
        self._handler.close_connection = True
        self._handler.connection.shutdown(socket.SHUT_RDWR)


Answer = Callable[[Exchange], None]


def well(exchange: Exchange) -> None:
    exchange.give(exchange.result())


def dropped(exchange: Exchange) -> None:
    exchange.drop()


def slow(exchange: Exchange) -> None:
    """Says nothing until the server ends."""
    exchange.server.ending.wait(25)
    exchange.drop()


def trickling(exchange: Exchange) -> None:
    """A byte now and then, so that no single wait is long."""
    handler = exchange._handler  # pyright: ignore[reportPrivateUsage]  # of this file
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    while not exchange.server.ending.wait(0.05):
        handler.wfile.write(b" ")
        handler.wfile.flush()


def status(code: int, said: str = "no") -> Answer:
    return lambda exchange: exchange.send(code, json.dumps({"status": {"error": said}}).encode())


def raw(body: bytes, code: int = 200) -> Answer:
    return lambda exchange: exchange.send(code, body)


def given(change: Callable[[Any], object]) -> Answer:
    """A good answer, its result changed."""

    def answer(exchange: Exchange) -> None:
        result = json.loads(json.dumps(exchange.result(), default=_plain))
        exchange.give(change(result))

    return answer


def _plain(value: BaseModel) -> Any:  # noqa: ANN401 -- JSON
    return value.model_dump(mode="json")


def _insert(client: QdrantClient, name: str, body: Json) -> object:
    points = [models.PointStruct(**point) for point in body["points"]]
    return client.upsert(name, points, update_mode=models.UpdateMode(body["update_mode"]))


def _nearest(client: QdrantClient, name: str, body: Json) -> object:
    assert body["params"]["exact"]
    return client.query_points(
        name,
        query=body["query"]["nearest"],
        query_filter=models.Filter(**body["filter"]),
        limit=body["limit"],
        with_payload=body["with_payload"],
    )


def _make(client: QdrantClient, name: str, body: Json) -> object:
    vectors = models.VectorParams(**body["vectors"])
    return client.create_collection(name, vectors_config=vectors, metadata=body["metadata"])


_OPERATIONS: dict[str, Callable[[QdrantClient, str, Json], object]] = {
    "info": lambda client, _, __: client.info(),
    "exists": lambda client, name, _: {"exists": client.collection_exists(name)},
    "read": lambda client, name, _: client.get_collection(name),
    "make": _make,
    "switch index": lambda _, __, ___: {"operation_id": 1, "status": "completed"},
    "insert": _insert,
    "fetch": lambda client, name, body: client.retrieve(
        name, body["ids"], with_payload=body["with_payload"], with_vectors=body["with_vector"]
    ),
    "join": lambda client, name, body: client.set_payload(name, body["payload"], body["points"]),
    "nearest": _nearest,
}

_ROUTES = {
    ("GET", "/"): "info",
    ("GET", "/collections/*/exists"): "exists",
    ("GET", "/collections/*"): "read",
    ("PUT", "/collections/*"): "make",
    ("PUT", "/collections/*/index"): "switch index",
    ("PUT", "/collections/*/points"): "insert",
    ("POST", "/collections/*/points"): "fetch",
    ("POST", "/collections/*/points/payload"): "join",
    ("POST", "/collections/*/points/query"): "nearest",
}


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests; anything else is a fault of this file."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(cast("socket.socket", request), client_address)


class Server:
    """Serves on a port of its own while it is entered."""

    def __init__(self) -> None:
        self.client = QdrantClient(":memory:")
        self.lock = threading.Lock()
        self.asked: list[str] = []
        self.keys: set[str] = set()
        self.script: defaultdict[str, deque[Answer]] = defaultdict(deque)
        self.always: dict[str, Answer] = {}
        self.ending = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one segment an answer: two would wait for each other for 40 ms

            def _answer(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                body = cast("Json", json.loads(self.rfile.read(size) or b"{}"))
                path = re.sub(r"^(/collections/)[^/]+", r"\1*", self.path.partition("?")[0])
                operation = _ROUTES[self.command, path]
                server.asked.append(operation)
                server.keys.add(self.headers.get("api-key") or "")
                script = server.script[operation]
                usual = server.always.get(operation, well)
                answer = script.popleft() if script else usual
                answer(Exchange(self, server, operation, body))

            do_GET = do_PUT = do_POST = _answer  # noqa: N815 -- the names that are called

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
