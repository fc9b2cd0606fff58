"""The remote embedder against a server that answers well, badly, late and not at all."""

from __future__ import annotations

import asyncio
import logging
import socket
import traceback
from collections.abc import Iterator
from email.utils import formatdate

import numpy as np
import pytest
from tests.behaviour.embedder_suite import EmbedderSuite, Make, some_texts
from tests.live import openai_server as served
from tests.live.openai_server import Server

from querycache.errors import EmbedderError
from querycache.origins.embedder_remote import RemoteEmbedder, RemoteSettings
from querycache.origins.embedding_wire import Dialect

pytestmark = [pytest.mark.asyncio, pytest.mark.live]

KEY = "sk-proj-0123456789abcdef"


class CountedNaps:
    """A clock on which nobody waits; `naps` are the waits that were asked for, in seconds."""

    def __init__(self) -> None:
        self.naps: list[float] = []

    def monotonic(self) -> float:
        return sum(self.naps)

    def wall(self) -> float:
        return 1_700_000_000.0 + sum(self.naps)

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def clock() -> CountedNaps:
    return CountedNaps()


def settings(server: Server, dialect: Dialect = "openai", **more: object) -> RemoteSettings:
    named: dict[str, object] = {"dialect": dialect, "url": server.url, "model": "small", **more}
    return RemoteSettings(**named)  # pyright: ignore[reportArgumentType]  # checked at the call


@pytest.fixture
def embedder(server: Server, clock: CountedNaps) -> RemoteEmbedder:
    return RemoteEmbedder(settings(server, api_key=KEY), clock)


class TestOpenAI(EmbedderSuite):
    @pytest.fixture
    def make(self, server: Server) -> Make:
        return lambda: RemoteEmbedder(settings(server, batch=16, api_key=KEY), CountedNaps())


class TestOllama(EmbedderSuite):
    @pytest.fixture
    def make(self, server: Server) -> Make:
        return lambda: RemoteEmbedder(settings(server, "ollama", batch=16), CountedNaps())


async def failure(embedder: RemoteEmbedder) -> EmbedderError:
    with pytest.raises(EmbedderError) as caught:
        await embedder.embed(["open file", "read file"], "document")
    told = "".join(traceback.format_exception(caught.value)) + caught.value.remedy + repr(embedder)
    assert embedder.url in str(caught.value)
    assert KEY not in told
    await embedder.close()
    return caught.value


@pytest.mark.parametrize(
    ("dialect", "path", "asked"),
    [
        ("openai", "", "/v1/embeddings"),
        ("openai", "/", "/v1/embeddings"),
        ("openai", "/v1", "/v1/embeddings"),
        ("openai", "/v1/embeddings", "/v1/embeddings"),
        ("openai", "/proxy", "/proxy/v1/embeddings"),
        ("ollama", "/", "/api/embed"),
        ("ollama", "/api/embed", "/api/embed"),
        ("ollama", "/v1", "/api/embed"),
    ],
)
async def test_the_url_may_be_any_root(
    server: Server, clock: CountedNaps, dialect: Dialect, path: str, asked: str
) -> None:
    embedder = RemoteEmbedder(settings(server, dialect, url=server.url + path), clock)
    await embedder.start()
    assert server.requests[0].path == asked
    await embedder.close()


async def test_what_is_asked_of_openai(server: Server, clock: CountedNaps) -> None:
    embedder = RemoteEmbedder(settings(server, api_key=KEY, dimensions=24, batch=2), clock)
    rows = await embedder.embed(["a", "", "b", "c \ud800"], "document")
    assert rows.shape == (4, 24)
    _, first, second = server.requests
    assert first.headers["Authorization"] == f"Bearer {KEY}"
    assert first.json == {
        "model": "small",
        "input": ["a", "b"],
        "dimensions": 24,
        "encoding_format": "float",
    }
    assert second.texts == ["c ?"]
    await embedder.close()


async def test_ollama_may_not_cut_texts(server: Server, clock: CountedNaps) -> None:
    embedder = RemoteEmbedder(settings(server, "ollama"), clock)
    await embedder.embed(["a"], "query")
    assert server.requests[1].json == {"model": "small", "input": ["a"], "truncate": False}
    await embedder.close()


async def test_each_role_may_have_a_prefix(server: Server, clock: CountedNaps) -> None:
    plain = RemoteEmbedder(settings(server), clock)
    marked = RemoteEmbedder(settings(server, query_prefix="q: ", document_prefix="d: "), clock)
    await asyncio.gather(plain.start(), marked.start())
    assert plain.identity != marked.identity
    await marked.embed(["a"], "query")
    await marked.embed(["a"], "document")
    assert [request.texts for request in server.requests[-2:]] == [["q: a"], ["d: a"]]
    await asyncio.gather(plain.close(), marked.close())


@pytest.mark.parametrize(
    "answer", [served.out_of_order, served.without_index, served.in_base64, served.compressed]
)
async def test_other_ways_to_say_the_same(
    server: Server, embedder: RemoteEmbedder, answer: served.Answer
) -> None:
    texts = some_texts(5, 20)
    wanted = await embedder.embed(texts, "document")
    server.script.append(answer)
    np.testing.assert_allclose(await embedder.embed(texts, "document"), wanted, atol=1e-6)
    await embedder.close()


async def test_a_large_answer_is_read_whole(server: Server, clock: CountedNaps) -> None:
    server.dimensions = 1_536
    embedder = RemoteEmbedder(settings(server), clock)
    texts = some_texts(6, 64)
    rows = await embedder.embed(texts, "document")
    assert np.array_equal(rows[:1], await embedder.embed(texts[:1], "document"))
    await embedder.close()


@pytest.mark.parametrize(
    "passing",
    [
        [served.status(500), served.status(500)],
        [served.status(503), served.dropped, served.status(408)],
        [served.dropped],
    ],
)
async def test_asks_again_what_may_pass(
    server: Server, embedder: RemoteEmbedder, clock: CountedNaps, passing: list[served.Answer]
) -> None:
    await embedder.start()
    server.script.extend(passing)
    assert (await embedder.embed(["a"], "query")).any()
    assert len(clock.naps) == len(passing)
    for place, nap in enumerate(clock.naps):
        assert 0.25 * 2**place <= nap <= 0.5 * 2**place
    await embedder.close()


async def test_gives_up_after_some_attempts(
    server: Server, embedder: RemoteEmbedder, clock: CountedNaps
) -> None:
    await embedder.start()
    server.script.extend([served.status(502, "worker died")] * 10)
    error = await failure(embedder)
    assert "502" in str(error)
    assert "worker died" in str(error)
    assert "log" in error.remedy
    assert len(clock.naps) == 3


async def test_waits_as_long_as_the_server_asks(
    server: Server, embedder: RemoteEmbedder, clock: CountedNaps
) -> None:
    await embedder.start()
    in_nine = formatdate(clock.wall() + 7 + 9, usegmt=True)
    server.script.append(served.status(429, "slow down", retry_after="7"))
    server.script.append(served.status(503, "busy", retry_after=in_nine))
    server.script.append(served.status(429, "slow down", retry_after="soon"))
    assert (await embedder.embed(["a"], "query")).any()
    assert clock.naps[:2] == [7.0, 9.0]
    assert 1.0 <= clock.naps[2] <= 2.0
    await embedder.close()


async def test_does_not_wait_for_ever(
    server: Server, embedder: RemoteEmbedder, clock: CountedNaps
) -> None:
    await embedder.start()
    server.script.append(served.status(429, {"message": "quota"}, retry_after="86400"))
    error = await failure(embedder)
    assert "429: quota" in str(error)
    assert "BATCH" in error.remedy
    assert clock.naps == []


async def test_a_slow_server_is_not_asked_again(server: Server, clock: CountedNaps) -> None:
    embedder = RemoteEmbedder(settings(server, timeout_s=0.2), clock)
    await embedder.start()
    asked = len(server.requests)
    server.script.append(served.slow)
    error = await failure(embedder)
    assert "0.2 s" in str(error)
    assert "TIMEOUT" in error.remedy
    assert len(server.requests) == asked + 1
    assert clock.naps == []


async def test_nobody_listens(clock: CountedNaps) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    embedder = RemoteEmbedder(
        RemoteSettings(dialect="ollama", url=url, model="small", api_key=KEY), clock
    )
    error = await failure(embedder)
    assert "can't be reached" in str(error)
    assert "running" in error.remedy
    assert len(clock.naps) == 3


@pytest.mark.parametrize(
    ("code", "remedy"), [(400, "MODEL"), (401, "API_KEY"), (404, "URL"), (413, "BATCH")]
)
async def test_a_refusal_is_told_at_once(
    server: Server, embedder: RemoteEmbedder, clock: CountedNaps, code: int, remedy: str
) -> None:
    server.script.append(served.status(code, {"message": f"bad key {KEY}\n\x1b[31m{'x' * 9_999}"}))
    error = await failure(embedder)
    assert f"answered {code}: bad key *** [31mxxx" in str(error)
    assert len(str(error)) < 500
    assert remedy in error.remedy
    assert clock.naps == []


async def test_a_redirect_is_not_followed(server: Server, embedder: RemoteEmbedder) -> None:
    server.script.append(served.status(307, "", location="http://127.0.0.1:1/v1/embeddings"))
    error = await failure(embedder)
    assert "redirect to http://127.0.0.1:1/v1/embeddings" in str(error)
    assert len(server.requests) == 1


NONSENSE: dict[str, served.Answer] = {
    "garbage": served.raw(b"<html>welcome to nginx"),
    "not utf-8": served.raw(b'{"data": "\xff\xfe"}'),
    "empty": served.raw(b""),
    "another shape": served.raw(b'{"data": [{"index": 0}]}'),
    "too few": served.given(lambda vectors: vectors[:1]),
    "too many": served.given(lambda vectors: [*vectors, vectors[0]]),
    "ragged": served.given(lambda vectors: [vectors[0], vectors[1][:-1]]),
    "no dimensions": served.given(lambda vectors: [[] for _ in vectors]),
    "nan": served.given(lambda vectors: [[float("nan"), *row[1:]] for row in vectors]),
    "nan in base64": served.given(lambda vectors: ["AADAfw==" for _ in vectors]),
    "infinity in base64": served.given(lambda vectors: ["AACAfw==" for _ in vectors]),
    "cut base64": served.given(lambda vectors: ["AADAfwA=" for _ in vectors]),
    "no base64": served.given(lambda vectors: ["%%%%" for _ in vectors]),
    "beyond floats": served.raw(b'{"data": [{"index": 0, "embedding": [1e999]}]}'),
    "null": served.given(lambda vectors: [[None, *row[1:]] for row in vectors]),
    "zeros": served.given(lambda vectors: [[0.0] * len(row) for row in vectors]),
    "twice the same index": lambda exchange: exchange.say(
        {"data": [{"index": 0, "embedding": row} for row in exchange.vectors()]}
    ),
    "huge": served.raw(b" " * (3 << 20)),
    "one dimension less": served.given(lambda vectors: [row[1:] for row in vectors]),
}


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE.keys())
async def test_nonsense_is_an_error(
    server: Server, embedder: RemoteEmbedder, clock: CountedNaps, answer: served.Answer
) -> None:
    await embedder.start()
    server.script.append(answer)
    error = await failure(embedder)
    assert "gave" in str(error)
    assert error.remedy
    assert clock.naps == []


async def test_other_dimensions_than_asked_for(server: Server, clock: CountedNaps) -> None:
    server.script.append(served.given(lambda vectors: [row[:12] for row in vectors]))
    embedder = RemoteEmbedder(settings(server, dimensions=24), clock)
    error = await failure(embedder)
    assert "12 dimensions where 24" in str(error)
    assert "DIMENSIONS" in error.remedy


async def test_a_failed_start_can_be_tried_again(server: Server, embedder: RemoteEmbedder) -> None:
    server.script.append(served.status(401))
    with pytest.raises(EmbedderError):
        await embedder.start()
    await embedder.start()
    assert embedder.dimensions == 48
    await embedder.close()


async def test_callers_who_come_together_share_one_probe(
    server: Server, embedder: RemoteEmbedder
) -> None:
    await asyncio.gather(*(embedder.start() for _ in range(5)))
    await embedder.start()
    assert len(server.requests) == 1
    await embedder.close()


async def test_the_identity_tells_models_apart_and_ignores_noise(
    server: Server, clock: CountedNaps
) -> None:
    async def identity(model: str = "small", dimensions: int = 0) -> str:
        asked = settings(server, model=model, dimensions=dimensions)
        embedder = RemoteEmbedder(asked, clock)
        await embedder.start()
        await embedder.close()
        return embedder.identity

    usual = await identity()
    assert usual.startswith(f"openai {server.url}/v1/embeddings small 48 text-1 ")
    others = {await identity(model="large"), await identity(dimensions=24)}
    server.script.append(
        served.given(lambda vectors: [[x * 7.5 + 1e-5 for x in row] for row in vectors])
    )
    assert await identity() == usual
    server.weights = "swapped"
    others.add(await identity())
    assert len({usual, *others}) == 4


async def test_the_key_is_nowhere(
    server: Server, embedder: RemoteEmbedder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await embedder.embed(["a"], "query")
    written = (
        caplog.text + repr(embedder) + embedder.identity + repr(settings(server, api_key=KEY))
    )
    assert KEY not in written
    assert caplog.records
    await embedder.close()


async def test_a_cancelled_question_leaves_the_embedder_usable(
    server: Server, embedder: RemoteEmbedder
) -> None:
    await embedder.start()
    server.script.append(served.slow)
    question = asyncio.ensure_future(embedder.embed(["a"], "query"))
    assert await asyncio.to_thread(server.kept_waiting.wait, 10)
    question.cancel()
    with pytest.raises(asyncio.CancelledError):
        await question
    assert (await embedder.embed(["a"], "query")).any()
    await embedder.close()
