"""A real server on a free port for the length of a test, and a client that says exactly what it is
told to, byte for byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from querycache.assembly.app import App
from querycache.config import Config, load_config
from querycache.doors.http_api.app import create_app
from querycache.doors.http_api.connection import Server, listen

FILES = {
    "billing/invoice.py": '''"""Invoices."""


def total_with_tax(amount, rate):
    """The amount with value added tax."""
    return amount * (1 + rate)
''',
    "billing/ledger.py": '''"""The ledger."""


def post_entry(account, amount):
    """Book an amount to an account."""
    account.append(amount)
''',
    "README.md": "# Shop\n\nA small shop that sends invoices.\n",
}


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 -- JSON
        return msgspec.json.decode(self.body)

    @property
    def error(self) -> str:
        return self.json["error"]["name"]


class Peer(NamedTuple):
    """A served App."""

    app: App
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.ask("GET", path, headers)

    async def post(self, path: str, body: object, **headers: str) -> Answer:
        json = {"Content-Type": "application/json", **headers}
        return await self.ask("POST", path, json, msgspec.json.encode(body))

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """One request on a connection of its own; names of headers may be given with `_`."""
        given = {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        whole = {"Host": f"127.0.0.1:{self.port}", "Connection": "close", **given}
        if body and "Transfer-Encoding" not in whole:
            whole.setdefault("Content-Length", str(len(body)))
        head = "".join(f"{name}: {value}\r\n" for name, value in whole.items() if value)
        return await self.say(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)

    async def say(self, data: bytes) -> Answer:
        """Sends these bytes and reads one answer, to the end of the connection; status 0 for one
        that was cut.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(20):
                writer.write(data)
                raw = await reader.read()
        except ConnectionError:
            return Answer(0, {}, b"")
        finally:
            writer.close()
        return parsed(raw)


def parsed(raw: bytes) -> Answer:
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert len(lines) - len(headers) <= 1, f"headers are sent twice: {lines}"  # Connection may be
    if headers.get("transfer-encoding") == "chunked":
        body = _unchunked(body)
    return Answer(int(first.split()[1]), headers, body)


def _unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        whole += body[:length]
        body = body[length + 2 :]
    return whole


def sample(folder: Path) -> Path:
    """A small project."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def config_in(folder: Path, **variables: str) -> Config:
    """Settings that keep everything below a folder."""
    environ = {
        "QUERYCACHE_HOME": str(folder / "home"),
        "XDG_DATA_HOME": str(folder / "data"),
        "HOME": str(folder),
        **variables,
    }
    return load_config(environ, folder).config


@asynccontextmanager
async def serving(
    config: Config, roots: Sequence[str] = (), *, watch: bool = True, names: Sequence[str] = ()
) -> AsyncGenerator[Peer]:
    """An App behind a real server."""
    app = App(config, door="http")
    started = asyncio.Event()
    server = Server(create_app(app, roots=roots, watch=watch, names=names), started.set)
    listener = listen("127.0.0.1", 0)
    running = asyncio.ensure_future(server.serve(sockets=[listener]))
    running.add_done_callback(lambda _: started.set())
    try:
        await started.wait()
        assert not running.done()
        yield Peer(app, listener.getsockname()[1])
    finally:
        server.should_exit = True
        await running
        listener.close()
