"""Qdrant over a wire: vectors come back bit for bit, and no fault of a server reaches a caller."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from tests.behaviour.index_suite import (
    DIMENSIONS,
    ask,
    file_of,
    some_file,
    some_paths,
    some_questions,
)
from tests.live.qdrant_server import (
    Answer,
    Json,
    Server,
    dropped,
    given,
    raw,
    slow,
    status,
    trickling,
)
from tests.unit.origins.qdrant_kit import in_memory
from tests.unit.usecases.app_kit import app_at, make_project

from querycache.clock import SystemClock
from querycache.errors import NotAvailableError
from querycache.origins import index_qdrant, index_server
from querycache.origins.index import SqliteIndex
from querycache.origins.index_qdrant import Qdrant, open_qdrant
from querycache.origins.indexes import SqliteIndexes
from querycache.ports.origins import Hit

pytestmark = [pytest.mark.live, in_memory]

FILES = [some_file(path, 1) for path in some_paths(60)]
CHUNKS = {chunk.text_hash: chunk.vector for file in FILES for chunk in file.chunks}


@pytest.fixture
def server() -> Generator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def qdrant(server: Server) -> Generator[Qdrant]:
    qdrant = open_qdrant(server.url, "the-key", "team", SystemClock())
    qdrant.server.client.result(20)
    yield qdrant
    qdrant.close()


def index_of(folder: Path, qdrant: Qdrant | None) -> SqliteIndex:
    indexes = SqliteIndexes(str(folder), shared=qdrant and qdrant.vectors)
    return indexes.open("p", root="/r", versions="v", dimensions=DIMENSIONS)


def filled(folder: Path, qdrant: Qdrant | None) -> SqliteIndex:
    index = index_of(folder, qdrant)
    index.apply(FILES, [], [])
    return index


def test_rankings_and_vectors_are_equal_bit_for_bit(
    server: Server, qdrant: Qdrant, tmp_path: Path
) -> None:
    plain, mine = filled(tmp_path / "0", None), filled(tmp_path / "1", qdrant)
    for question in some_questions(1, 40):
        assert mine.search(question) == plain.search(question)
    assert "nearest" in server.asked
    assert server.keys == {"the-key"}
    assert index_of(tmp_path / "2", qdrant).vectors(list(CHUNKS)) == CHUNKS
    assert qdrant.server.trouble == ""


FAULTS = [
    dropped,
    status(401, "Invalid API key"),
    status(429),
    status(500),
    status(503),
    raw(b"<html>a proxy</html>"),
    raw(b'{"result": {"points": 7}}'),
    raw(b"\xff\xfe", 502),
    raw(b"", 302),
]


def _points(change: Callable[[list[Json]], list[Json]]) -> Answer:
    return given(lambda result: {"points": change(result["points"])})


LIES = [
    _points(lambda points: points + points[:1]),
    _points(lambda points: [{**point, "score": None} for point in points]),
    _points(lambda points: [{**point, "score": float("nan")} for point in points]),
    _points(lambda points: [{**point, "score": float("inf")} for point in points]),
    _points(lambda points: [{**point, "id": n} for n, point in enumerate(points)]),
    _points(lambda points: points[5:]),
    _points(lambda _: []),
]


@pytest.mark.parametrize("fault", [*FAULTS, *LIES], ids=range(len(FAULTS) + len(LIES)))
def test_a_search_that_fails_there_is_answered_here(
    server: Server, qdrant: Qdrant, tmp_path: Path, fault: Answer
) -> None:
    plain, mine = filled(tmp_path / "0", None), filled(tmp_path / "1", qdrant)
    server.script["nearest"].append(fault)
    assert mine.search(ask("parse request")) == plain.search(ask("parse request"))
    assert server.asked[-1] == "nearest"
    assert qdrant.server.trouble
    assert len(qdrant.server.trouble.splitlines()) == 1


@pytest.mark.parametrize("fault", FAULTS[::4], ids=["dropped", "503", "empty"])
@pytest.mark.parametrize(
    "operation", ["info", "exists", "read", "make", "switch index", "insert", "fetch"]
)
def test_indexing_goes_on_and_catches_up(
    server: Server,
    qdrant: Qdrant,
    tmp_path: Path,
    operation: str,
    fault: Answer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(index_server, "REST_S", 0.0)
    qdrant.server._rest = 0.0  # pyright: ignore[reportPrivateUsage]  # no waiting in tests
    server.script[operation].append(fault)
    plain, mine = filled(tmp_path / "0", None), filled(tmp_path / "1", qdrant)
    assert mine.state() == plain.state()
    assert mine.search(ask("parse")) == plain.search(ask("parse"))
    mine.apply([], [], [], completed=1.0)
    mine.apply([], [], [], completed=2.0)
    server.asked.clear()
    assert mine.search(ask("parse")) == plain.search(ask("parse"))
    assert "nearest" in server.asked
    assert qdrant.server.trouble == ""


def _vectors(change: Callable[[list[float]], object]) -> Answer:
    return given(lambda rows: [{**row, "vector": change(row["vector"])} for row in rows])


@pytest.mark.parametrize(
    "lie",
    [
        _vectors(lambda vector: [*vector, 0.0]),
        _vectors(lambda vector: [float("nan"), *vector[1:]]),
        _vectors(lambda vector: [1e39, *vector[1:]]),
        _vectors(lambda vector: [-number for number in vector]),
        _vectors(lambda _: None),
        _vectors(lambda _: []),
        _vectors(lambda vector: [[number] for number in vector]),
        given(lambda rows: [{**row, "payload": None} for row in rows]),
        given(lambda rows: [{**row, "payload": {"sum": [1]}} for row in rows]),
        given(lambda rows: [{**row, "id": "x"} for row in rows]),
        given(lambda _: []),
        *FAULTS,
    ],
)
def test_no_vector_is_taken_from_a_server_that_lies(
    server: Server, qdrant: Qdrant, tmp_path: Path, lie: Answer
) -> None:
    filled(tmp_path / "1", qdrant)
    server.script["fetch"].append(lie)
    assert index_of(tmp_path / "2", qdrant).vectors(list(CHUNKS)) == {}


@pytest.mark.parametrize("hang", [slow, trickling])
def test_a_server_that_hangs_costs_one_wait(
    server: Server,
    qdrant: Qdrant,
    tmp_path: Path,
    hang: Answer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, mine = filled(tmp_path / "0", None), filled(tmp_path / "1", qdrant)
    server.always["nearest"] = server.always["exists"] = hang
    started = time.monotonic()
    for _ in range(4):
        assert mine.search(ask("parse")) == plain.search(ask("parse"))
    assert index_server.SEARCH_S <= time.monotonic() - started < 2 * index_server.SEARCH_S
    assert "no answer within 1 s" in qdrant.server.trouble
    monkeypatch.setattr(index_qdrant, "WRITE_S", 0.3)
    qdrant.server._resting_until = 0.0  # pyright: ignore[reportPrivateUsage]  # as above
    started = time.monotonic()
    mine.apply([file_of("new.py", ["new"])], [], [], completed=1.0)
    assert time.monotonic() - started < 2
    assert mine.state().files == len(FILES) + 1


def test_a_server_that_keeps_nothing_is_not_believed(
    server: Server, qdrant: Qdrant, tmp_path: Path
) -> None:
    server.always["insert"] = lambda exchange: exchange.give(
        {"operation_id": 1, "status": "acknowledged"}
    )
    index = filled(tmp_path / "1", qdrant)
    assert index.search(ask("parse")).hits
    assert "does not keep" in qdrant.server.trouble
    assert "nearest" not in server.asked


def test_an_old_server_is_refused(server: Server, qdrant: Qdrant, tmp_path: Path) -> None:
    server.always["info"] = raw(b'{"title": "qdrant", "version": "1.16.3"}')
    assert filled(tmp_path / "1", qdrant).search(ask("parse")).hits
    assert "1.16.3" in qdrant.server.trouble
    assert not {"insert", "make"} & set(server.asked)


def test_nobody_listens(tmp_path: Path) -> None:
    with Server() as server:
        url = server.url
    qdrant = open_qdrant(url, "", "team", SystemClock())
    index = filled(tmp_path / "1", qdrant)
    assert index.search(ask("parse")).hits
    assert "refused" in qdrant.server.trouble
    qdrant.close()


def test_the_package_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_qdrant, "find_spec", lambda _: None)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]  # its argument
    with pytest.raises(NotAvailableError) as raised:
        open_qdrant("http://127.0.0.1:1", "", "team", SystemClock())
    assert raised.value.remedy == "pip install 'querycache[qdrant]'"


@pytest.mark.asyncio
async def test_a_colleague_embeds_nothing_again(server: Server, tmp_path: Path) -> None:
    """Two machines without a shared cache."""
    settings = {
        "QUERYCACHE_VECTOR_STORE": "qdrant",
        "QUERYCACHE_QDRANT_URL": server.url,
        "CACHE_L2_BACKEND": "none",
    }
    found: list[tuple[Hit, ...]] = []
    sent: list[int] = []
    for name in ("one", "two"):
        async with app_at(tmp_path / name / "home", **settings) as app:
            indexed = await app.index(str(make_project(tmp_path / name / "sample")))
            sent.append(indexed.embedded)
            assert app.qdrant is not None
            app.qdrant.server.client.result(20)
            found.append((await app.search("greet a person", "sample")).results)
            assert app.qdrant.server.trouble == ""
            app.qdrant.close()
    assert sent == [indexed.chunks, 0]
    assert found[0] == found[1]
    assert server.asked.count("nearest") == 2
