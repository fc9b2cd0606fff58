"""The dashboard over a real server: its page, its stream, who may see it, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.types import Message
from tests.doors.http_kit import Peer, config_in, sample, serving
from tests.redis_kit import until

from querycache.assembly.app import App
from querycache.doors.dashboard.history import SERIES
from querycache.doors.dashboard.live import MOST_FOLLOWERS, Live
from querycache.doors.dashboard.page import FILES
from querycache.doors.http_api.routes_dashboard import PAGES, routes

pytestmark = pytest.mark.asyncio

TOKEN = "a-token-of-the-test"  # noqa: S105 -- not a secret
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Stream:
    """A stream of events as it arrives."""

    def __init__(self, head: str, reader: asyncio.StreamReader) -> None:
        self.head = head
        self.reader = reader
        self._parts: list[str] = []

    async def part(self) -> tuple[str, Any]:
        """The next event's name and data; a comment has the name ""."""
        while not self._parts:
            size = int(await self.reader.readline(), 16)
            chunk = (await self.reader.readexactly(size + 2)).decode()
            self._parts = chunk.strip().split("\n\n")
        fields = dict(line.split(": ", 1) for line in self._parts.pop(0).splitlines())
        data = fields.get("data")
        return fields.get("event", ""), None if data is None else msgspec.json.decode(data)

    async def next(self, *names: str) -> Any:  # noqa: ANN401 -- JSON
        """The data of the next event of one of these names."""
        async with asyncio.timeout(10):
            while True:
                name, data = await self.part()
                if name in names:
                    return data

    async def ended(self) -> bool:
        """Whether nothing more comes, after what is under way."""
        async with asyncio.timeout(5):
            return (await self.reader.read()).endswith(b"0\r\n\r\n")


@asynccontextmanager
async def following(peer: Peer, **headers: str) -> AsyncGenerator[Stream]:
    """A stream that is open for the block."""
    reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
    given = {"Host": f"127.0.0.1:{peer.port}", **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    writer.write(f"GET /events HTTP/1.1\r\n{lines}\r\n".encode())
    try:
        async with asyncio.timeout(10):
            yield Stream((await reader.readuntil(b"\r\n\r\n")).decode().lower(), reader)
    finally:
        writer.close()


async def test_the_stream_tells_what_stats_tell(tmp_path: Path):
    root = str(sample(tmp_path / "shop"))
    async with serving(config_in(tmp_path), [root]) as peer:
        for _ in range(3):
            await peer.post("/search", {"query": "tax"})
        async with following(peer) as stream:
            history = await stream.next("history")
            stats = (await peer.get("/stats/cache")).json
            while True:
                told = await stream.next("sample")
                if told["stats"]["total_operations"] == stats["total_operations"]:
                    break
    assert " 200 " in stream.head
    assert "content-type: text/event-stream" in stream.head
    assert "cache-control: no-store" in stream.head
    assert "content-security-policy: default-src 'self'" in stream.head
    assert "content-length" not in stream.head
    assert set(history["seconds"]["series"]) == set(SERIES)
    for name in ("hit_count", "miss_count", "hit_rate", "loads", "saved_s"):
        assert told["stats"][name] == stats[name], name
    assert told["tiers"]["l1"] == stats["tiers"]["l1"]
    assert told["savings"] == stats["savings"]
    assert [one["project"]["name"] for one in told["projects"]] == ["shop"]
    assert told["memory"]["rss"] > 1024 * 1024


async def test_what_happens_is_told_once(tmp_path: Path):
    async with serving(config_in(tmp_path)) as peer, following(peer) as stream:
        await stream.next("sample")
        await peer.post("/invalidate", {"tag": "project:shop"})
        told = await stream.next("event")
        page = await stream.next("page")
        after = [await stream.part() for _ in range(2)]
    assert (told["event"], told["detail"]["tag"]) == ("Invalidated", "project:shop")
    assert page["tables"]["events"][0]["cells"][0] == "invalidated"
    assert "event" not in [name for name, _ in after]


async def test_who_asks_for_the_head_alone_gets_it(tmp_path: Path):
    async with serving(config_in(tmp_path)) as peer:
        reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
        async with asyncio.timeout(10):
            for _ in range(2):  # over one connection
                writer.write(
                    f"HEAD /events HTTP/1.1\r\nHost: 127.0.0.1:{peer.port}\r\n\r\n".encode()
                )
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200")
                assert b"text/event-stream" in head
        writer.close()


async def test_places_are_bounded_and_given_back(tmp_path: Path):
    async with serving(config_in(tmp_path)) as peer:
        async with AsyncExitStack() as followers:
            for _ in range(MOST_FOLLOWERS):
                stream = await followers.enter_async_context(following(peer))
                assert " 200 " in stream.head
            refused = await peer.get("/events")
        assert (refused.status, refused.error) == (503, "TooManyFollowers")
        assert int(refused.headers["retry-after"]) > 0

        async def free() -> bool:
            async with following(peer) as stream:
                return " 200 " in stream.head

        await until(free, "a place after all have left")


async def test_the_end_of_the_server_ends_the_streams_at_once(tmp_path: Path):
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as clients:
        async with serving(config_in(tmp_path)) as peer:
            stream = await clients.enter_async_context(following(peer))
            await stream.next("page")
            began = loop.time()
        took = loop.time() - began
        assert await stream.ended()
    assert took < 4, "uvicorn waits 5 s for what does not end by itself"


async def test_who_does_not_read_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("querycache.doors.http_api.routes_dashboard._SENT_WITHIN_S", 0.05)
    app = App(config_in(tmp_path))
    live = Live(app)
    (events,) = (one for one in routes(live, with_token=False) if one.path == "/events")
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)
        if len(sent) > 1:
            assert live.followers == 1
            await asyncio.Event().wait()

    async def receive() -> Message:
        await asyncio.Event().wait()
        return {}

    scope: dict[str, object] = {"type": "http", "method": "GET", "path": "/events", "headers": []}
    await events.handle(scope, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert live.followers == 0
    await app.close()


async def test_what_fails_in_a_turn_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    async with serving(config_in(tmp_path)) as peer:
        peer.app.__dict__["list_projects"] = "no function"  # calling it is a TypeError
        page = await peer.get("/")
        peer.app.__dict__["status"] = "no status"  # asking it is an AttributeError

        async def told() -> bool:
            return "a turn failed" in caplog.text

        await until(told, "the failure is logged")
        alive = await peer.get("/health/live")
    assert (page.status, alive.status) == (200, 200)
    assert "the projects could not be looked at" in caplog.text


async def test_the_page_has_its_figures_at_once(tmp_path: Path):
    root = str(sample(tmp_path / "<b>shop"))
    async with serving(config_in(tmp_path)) as peer:
        await peer.post("/projects", {"path": root})
        answer = await peer.get("/")
        files = {path: await peer.get(path) for path in FILES}
    text = answer.body.decode()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "&lt;b&gt;shop" in text
    assert "<b>shop" not in text
    assert 'data-show="status">healthy<' in text
    for path, (_, kind) in FILES.items():
        assert (files[path].status, files[path].headers["content-type"]) == (200, kind)


async def test_with_a_token_the_page_is_open_and_empty(tmp_path: Path):
    config = config_in(tmp_path, QUERYCACHE_TOKEN=TOKEN)
    async with serving(config, [str(sample(tmp_path / "shop"))]) as peer:
        open_pages = [await peer.get(path) for path in sorted(PAGES)]
        posted = await peer.post("/", {})
        foreign = await peer.get("/", Host="evil.example")
        stranger = await peer.get("/events")
        async with following(peer, **BEARER) as stream:
            told = await stream.next("sample")
    assert [answer.status for answer in open_pages] == [200] * len(open_pages)
    assert b'data-state="locked"' in open_pages[0].body
    assert b"shop" not in open_pages[0].body
    assert (posted.status, foreign.status, stranger.status) == (401, 421, 401)
    assert told["health"]["status"] == "healthy"


async def test_a_place_that_does_not_answer_is_shown_all_the_same(tmp_path: Path):
    async with serving(config_in(tmp_path)) as peer:
        await peer.app.core.l2.close()
        text = (await peer.get("/")).body.decode()
        async with following(peer) as stream:
            told = await stream.next("sample")
    assert 'data-show="status">degraded<' in text
    assert "store.unusable" in text
    assert told["findings"][0]["remedy"]
