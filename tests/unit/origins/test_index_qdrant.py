"""The index in SQLite files whose semantic arm is Qdrant."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from qdrant_client import models
from tests.behaviour.index_suite import (
    DIMENSIONS,
    IndexSuite,
    Make,
    ask,
    file_of,
    some_file,
    some_paths,
    some_questions,
    vector_of,
)
from tests.unit.origins.qdrant_kit import Memory, in_memory

from querycache.clock import Clock
from querycache.keys import digest
from querycache.origins import index_shared
from querycache.origins.index import SqliteIndex
from querycache.origins.index_qdrant import Qdrant
from querycache.origins.index_server import LONGEST_REST_S, REST_S
from querycache.origins.indexes import SqliteIndexes
from querycache.ports.origins import IndexedFile
from querycache.testing import FakeClock

pytestmark = in_memory


class TestIndexesWithQdrant(IndexSuite):
    @pytest.fixture
    def make(self) -> Make:
        memory = Memory()
        return lambda folder: SqliteIndexes(str(folder), shared=memory.qdrant().vectors)


class TestIndexesWithoutAnAnswer(IndexSuite):
    """Qdrant is away all the time."""

    @pytest.fixture
    def make(self) -> Make:
        memory = Memory()
        memory.away = "connection refused"
        return lambda folder: SqliteIndexes(str(folder), shared=memory.qdrant().vectors)


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


Machine = Callable[..., SqliteIndex]


@pytest.fixture
def machine(memory: Memory, tmp_path: Path, clock: Clock) -> Machine:
    """A machine of the team (by number; 0 has no Qdrant) with its index of the project."""

    def make(number: int, project: str = "p", model: str = "m") -> SqliteIndex:
        qdrant: Qdrant | None = memory.qdrant(clock) if number else None
        indexes = SqliteIndexes(str(tmp_path / str(number)), shared=qdrant and qdrant.vectors)
        return indexes.open(
            project, root="/r", versions=f"v of {model}", model=model, dimensions=DIMENSIONS
        )

    return make


def scans(index: SqliteIndex) -> bool:
    """Whether it has its vectors in memory, since its last answer came without Qdrant."""
    return index._snapshot.matrix is not None  # pyright: ignore[reportPrivateUsage]  # of no one else's interest


def files(version: int, count: int = 60) -> list[IndexedFile]:
    return [some_file(path, version) for path in some_paths(count)]


def texts_of(some: list[IndexedFile]) -> list[str]:
    return [chunk.text_hash for file in some for chunk in file.chunks]


def test_rankings_are_those_of_the_embedded_store(machine: Machine, memory: Memory) -> None:
    """While another machine is far ahead, and other projects hold the same texts and more."""
    plain, mine = machine(0), machine(1)
    ahead, other = machine(2), machine(2, "another")
    for version in range(6):
        ahead.apply(files(version + 3), [], [])
        other.apply(files(version), [], [])
        plain.apply(files(version), [], [])
        mine.apply(files(version), [], [])
        assert mine.state().digest == plain.state().digest
        memory.asked.clear()
        for question in some_questions(version, 60):
            assert mine.search(question) == plain.search(question), question
        assert "query_points" in memory.asked
        assert not scans(mine)


def test_the_cut_is_never_through_equals(machine: Machine, memory: Memory) -> None:
    plain, mine, other = machine(0), machine(1), machine(2)
    alike = [file_of(f"f{n:03}.py", ["same same", f"only {n}"]) for n in range(150)]
    for index in (plain, mine):
        index.apply(alike, [], [])
    other.apply([file_of(f"g{n:03}.py", [f"foreign {n}"]) for n in range(400)], [], [])
    before = memory.asked.count("query_points")
    for text in ("same same", "only 7", "foreign 3"):
        for limit in (1, 100):
            question = ask(text, "semantic", limit)
            assert mine.search(question) == plain.search(question)
    assert memory.asked.count("query_points") > before + 6  # it had to ask for more


def test_too_much_of_others_is_left_to_the_scan(
    machine: Machine, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_shared, "MOST", 200)
    mine, plain, ahead = machine(1), machine(0), machine(2)
    for index in (mine, plain):
        index.apply(files(1, 100), [], [])
    ahead.apply([file_of(f"g{n}.py", [f"foreign {n}"]) for n in range(900)], [], [])
    assert mine.search(ask("foreign 1")) == plain.search(ask("foreign 1"))
    assert memory.asked[-1] == "query_points"
    assert scans(mine)


def test_a_text_is_stored_once_and_found_by_whoever_comes(
    machine: Machine, memory: Memory
) -> None:
    first, some = machine(1), files(1)
    first.apply(some, [], [])
    whole = len(set(texts_of(some)))
    assert memory.count() == whole
    vectors = {chunk.text_hash: chunk.vector for file in some for chunk in file.chunks}
    for other in (machine(2), machine(3, "another")):
        assert other.vectors([*vectors, "unknown", "0" * 32]) == vectors
        other.apply(some, [], [])
    assert memory.count() == whole
    assert machine(4, model="another").vectors(list(vectors)) == {}


def test_other_versions_of_one_model_find_its_vectors(memory: Memory, tmp_path: Path) -> None:
    indexes = SqliteIndexes(str(tmp_path), shared=memory.qdrant().vectors)
    old = indexes.open("p", root="/r", versions="v1", model="m", dimensions=DIMENSIONS)
    old.apply(files(1), [], [])
    new = indexes.open("p", root="/r", versions="v2", model="m", dimensions=DIMENSIONS)
    assert new.state().files == 0
    assert new.vectors(texts_of(files(1))).keys() == set(texts_of(files(1)))


def test_what_was_indexed_meanwhile_is_brought_later(
    machine: Machine, memory: Memory, clock: FakeClock
) -> None:
    mine, plain = machine(1), machine(0)
    mine.apply(files(1, 100), [], [])
    plain.apply(files(1, 100), [], [])
    memory.away = "connection refused"
    for index in (mine, plain):
        index.apply(files(2, 150), [], [], completed=1.0)
    assert mine.search(ask("parse")) == plain.search(ask("parse"))
    assert scans(mine)
    memory.away = ""
    clock.now += LONGEST_REST_S
    for question in some_questions(2, 30):
        assert mine.search(question) == plain.search(question), question
    mine.apply([], [], [], completed=2.0)
    assert mine.search(ask("parse")) == plain.search(ask("parse"))
    assert memory.asked[-1] == "query_points"
    assert not scans(mine)


def test_an_index_from_before_is_brought_as_a_whole(
    memory: Memory, tmp_path: Path, clock: FakeClock
) -> None:
    plain = SqliteIndexes(str(tmp_path)).open("p", root="/r", versions="v", dimensions=DIMENSIONS)
    state = plain.apply(files(1, 200), [], [])
    mine = SqliteIndexes(str(tmp_path), shared=memory.qdrant(clock).vectors).open("p")
    assert mine.search(ask("parse")) == plain.search(ask("parse"))
    assert "query_points" not in memory.asked
    assert mine.apply([], [], [], completed=1.0).digest == state.digest
    assert memory.count() == len(set(texts_of(files(1, 200))))
    for question in some_questions(3, 30):
        assert mine.search(question) == plain.search(question)
    assert "query_points" in memory.asked


def test_a_collection_that_was_lost_is_noticed_and_filled_anew(
    machine: Machine, memory: Memory, clock: FakeClock
) -> None:
    mine, plain = machine(1), machine(0)
    for index in (mine, plain):
        index.apply(files(1, 180), [], [])
    mine.search(ask("parse"))
    memory.wipe()
    colleague = machine(2)
    colleague.apply(files(5, 180), [], [])
    mine.search(ask("parse"))
    clock.now += LONGEST_REST_S
    for index in (mine, plain):
        index.apply(files(3, 120), [], [])
    for _ in range(3):
        for question in some_questions(4, 9):
            assert mine.search(question) == plain.search(question)
        clock.now += LONGEST_REST_S
    mine.apply([], [], [], completed=1.0)
    for question in some_questions(4, 9):
        assert mine.search(question) == plain.search(question)
    assert memory.asked[-1] == "query_points"


def test_points_that_were_deleted_are_missed(
    memory: Memory, tmp_path: Path, clock: FakeClock
) -> None:
    qdrant = memory.qdrant(clock)
    mine = SqliteIndexes(str(tmp_path), shared=qdrant.vectors).open(
        "p", root="/r", versions="v", dimensions=DIMENSIONS
    )
    some = files(1, 20)
    mine.apply(some, [], [])
    full = mine.search(ask("parse"))
    name = memory.name
    gone = models.PointIdsList(points=list[models.ExtendedPointId](texts_of(some)[:3]))
    memory.client.delete(name, gone)
    assert mine.search(ask("parse")) == full
    assert "3 texts of 'p' are gone" in qdrant.server.trouble
    assert name in qdrant.server.trouble


def test_it_rests_after_a_failure(memory: Memory, tmp_path: Path, clock: FakeClock) -> None:
    qdrant = memory.qdrant(clock)
    mine = SqliteIndexes(str(tmp_path), shared=qdrant.vectors).open(
        "p", root="/r", versions="v", dimensions=DIMENSIONS
    )
    mine.apply(files(1), [], [])
    memory.away = "no route"
    for rest in (REST_S, 2 * REST_S, 4 * REST_S):
        memory.asked.clear()
        for _ in range(5):
            assert mine.search(ask("parse")).hits
        assert len(memory.asked) == 1
        assert "no route" in qdrant.server.trouble
        clock.now += rest
    memory.away = ""
    mine.search(ask("parse"))
    assert qdrant.server.trouble == ""
    assert memory.asked[-1] == "query_points"


def test_the_first_vector_of_a_text_stays(machine: Machine) -> None:
    first, second, third = machine(1), machine(2), machine(3)
    file = file_of("a.py", ["a text"])
    first.apply([file], [], [])
    other = msgspec.structs.replace(file.chunks[0], vector=vector_of("of another mood"))
    second.apply([msgspec.structs.replace(file, chunks=(other,))], [], [])
    text = file.chunks[0].text_hash
    assert third.vectors([text]) == {text: file.chunks[0].vector}
    assert second.vectors([text]) == {text: other.vector}


@pytest.mark.parametrize("damage", ["sum", "length", "swapped"])
def test_a_vector_that_is_not_what_was_brought_is_no_vector(
    machine: Machine, memory: Memory, damage: str
) -> None:
    some = files(1, 4)
    machine(1).apply(some, [], [])
    bad, *_ = texts = texts_of(some)
    name = memory.name
    vector = np.frombuffer(vector_of("other"), np.float32).tolist()
    if damage == "length":
        vector = [2 * number for number in vector]
    if damage == "sum":
        memory.client.set_payload(name, {"sum": 17}, [bad])
    else:
        memory.client.update_vectors(name, [models.PointVectors(id=bad, vector=vector)])
    assert machine(2).vectors(texts).keys() == set(texts) - {bad}


def test_a_collection_of_others_is_left_alone(memory: Memory, tmp_path: Path) -> None:
    qdrant = memory.qdrant()
    name = f"team_{digest('m')[:16]}_{DIMENSIONS}"
    params = models.VectorParams(size=DIMENSIONS, distance=models.Distance.COSINE)
    memory.client.create_collection(name, vectors_config=params)
    index = SqliteIndexes(str(tmp_path), shared=qdrant.vectors).open(
        "p", root="/r", versions="v", model="m", dimensions=DIMENSIONS
    )
    index.apply(files(1), [], [], completed=1.0)
    assert index.search(ask("parse")).hits
    assert "not of querycache's making" in qdrant.server.trouble
    assert memory.count() == 0


def test_writers_at_once_lose_nothing_of_each_other(machine: Machine, memory: Memory) -> None:
    """Whatever came between a machine's look and its insert: the switches of both stay."""
    plain, one = machine(0), machine(1)
    two = machine(2, "another")
    some = files(1)
    # once `one` has seen that all is missing, `two` is first
    memory.before["upsert"] = lambda: two.apply(some, [], [])
    one.apply(some, [], [])
    plain.apply(some, [], [])
    for question in some_questions(8, 30):
        assert one.search(question) == plain.search(question)
        assert two.search(question).hits == plain.search(question).hits
    assert not scans(one)
    assert not scans(two)


def test_histories_do_not_matter(machine: Machine) -> None:
    choose = random.Random(21)  # noqa: S311 -- a history
    mine, plain = machine(1), machine(0)
    for round_ in range(10):
        edited = [some_file(path, round_) for path in choose.sample(some_paths(80), 20)]
        gone = choose.sample(some_paths(80), 5)
        for index in (mine, plain):
            index.apply(edited, gone, [])
        for question in some_questions(round_, 12):
            assert mine.search(question).hits == plain.search(question).hits
