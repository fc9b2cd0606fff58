"""The matrix in memory: the same answers whatever its history, exact and prefiltered."""

from __future__ import annotations

import random
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from querycache.origins import index_vectors
from querycache.origins.index_vectors import ORDINAL_BITS, Matrix

DIMENSIONS = 100  # no whole number of words of sign bits

Floats = NDArray[np.float32]


def rows_of(file: int, count: int = 0) -> Floats:
    choose = np.random.default_rng(file)
    count = count or int(choose.integers(1, 9))
    rows = (choose.standard_normal((count, DIMENSIONS)) + 0.3).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def files_of(numbers: Iterable[int]) -> list[tuple[int, bytes]]:
    return [(number, rows_of(number).tobytes()) for number in numbers]


def query_of(seed: int) -> Floats:
    return rows_of(10_000 + seed, 1)[0]


def by_rank(found: list[tuple[int, float]]) -> list[tuple[int, float]]:
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))


def winding(seed: int, final: set[int]) -> Matrix:
    """A matrix that holds `final` after many changes."""
    choose = random.Random(seed)  # noqa: S311 -- a history
    matrix = Matrix.empty(DIMENSIONS)
    held: set[int] = set()
    every = sorted(final) + list(range(5_000, 5_400))
    for _ in range(15):
        gone = choose.sample(sorted(held), len(held) // 3)
        held -= set(gone)
        new = [number for number in choose.sample(every, 60) if number not in held]
        matrix = matrix.changed(gone, files_of(new))
        held |= set(new)
    missing = choose.sample(sorted(final - held), len(final - held))
    return matrix.changed(sorted(held - final), files_of(missing))


def test_it_finds_what_a_plain_product_finds() -> None:
    matrix = Matrix.empty(DIMENSIONS).changed((), files_of(range(300)))
    every = np.concatenate([rows_of(number) for number in range(300)])
    ids = [
        (number << ORDINAL_BITS) + place
        for number in range(300)
        for place in range(len(rows_of(number)))
    ]
    for seed in range(10):
        exact: NDArray[np.float64] = every.astype(np.float64) @ query_of(seed)
        wanted = [ids[int(row)] for row in np.argsort(-exact)[:20]]
        found = by_rank(matrix.nearest(query_of(seed), 20))
        assert [chunk for chunk, _ in found[:20]] == wanted
        assert found[0][1] == pytest.approx(exact.max(), abs=1e-6)


@pytest.mark.parametrize("prefilter", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_answer_does_not_depend_on_the_history(
    seed: int, monkeypatch: pytest.MonkeyPatch, *, prefilter: bool
) -> None:
    if prefilter:
        monkeypatch.setattr(index_vectors, "PREFILTER_FROM", 100)
        monkeypatch.setattr(index_vectors, "CANDIDATES", 60)
    final = set(range(200, 520))
    direct = Matrix.empty(DIMENSIONS).changed((), files_of(sorted(final)))
    other = winding(seed, final)
    some = np.array([number for number in final if number % 3], np.int64)
    assert (direct.signs is not None) == prefilter
    for asked in range(8):
        for files in (None, some, some[:20]):
            mine = by_rank(direct.nearest(query_of(asked), 10, files))
            assert mine == by_rank(other.nearest(query_of(asked), 10, files))


def test_an_earlier_matrix_stays_as_it_was() -> None:
    first = Matrix.empty(DIMENSIONS).changed((), files_of(range(50)))
    before = by_rank(first.nearest(query_of(1), 10))
    later = first
    for number in range(60, 400):
        later = later.changed([number - 60], files_of([number]))
    assert by_rank(first.nearest(query_of(1), 10)) == before
    held = {chunk >> ORDINAL_BITS for chunk, _ in later.nearest(query_of(1), 10_000)}
    assert held <= set(range(340, 400))


def test_the_dead_do_not_pile_up() -> None:
    matrix = Matrix.empty(DIMENSIONS).changed((), files_of(range(600)))
    for number in range(600, 3_000):
        matrix = matrix.changed([number - 600], files_of([number]))
        assert np.count_nonzero(matrix.alive) >= min(0.74 * matrix.count, 700)


def test_all_that_tie_with_the_last_are_given() -> None:
    row = query_of(3).tobytes()
    matrix = Matrix.empty(DIMENSIONS).changed((), [(number, row) for number in range(40)])
    assert len(matrix.nearest(query_of(3), 5)) == 40


def test_only_what_points_the_same_way_is_similar() -> None:
    query = query_of(4)
    files = [(1, query.tobytes()), (2, (-query).tobytes()), (3, bytes(4 * DIMENSIONS))]
    found = Matrix.empty(DIMENSIONS).changed((), files).nearest(query, 10)
    assert [chunk >> ORDINAL_BITS for chunk, _ in found] == [1]


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_vectors, "_PARALLEL_FROM", 10)
    matrix = Matrix.empty(DIMENSIONS).changed((), files_of(range(301)))
    with ThreadPoolExecutor(2) as pool:
        for seed in range(5):
            alone = matrix.nearest(query_of(seed), 30)
            assert matrix.nearest(query_of(seed), 30, None, pool) == alone


def test_the_prefilter_keeps_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = Matrix.empty(DIMENSIONS).changed((), files_of(range(2_000)))
    monkeypatch.setattr(index_vectors, "PREFILTER_FROM", 1_000)
    monkeypatch.setattr(index_vectors, "CANDIDATES", 900)
    coarse = Matrix.empty(DIMENSIONS).changed((), files_of(range(2_000)))
    assert exact.signs is None
    assert coarse.signs is not None
    kept = 0
    for seed in range(50):
        near = rows_of(seed * 7)[0] + 0.5 * query_of(seed)
        wanted = {chunk for chunk, _ in exact.nearest(near, 10)}
        found = {chunk for chunk, _ in coarse.nearest(near, 10)}
        assert seed * 7 << ORDINAL_BITS in found
        kept += len(wanted & found)
    assert kept >= 400  # of 500: these vectors have no structure that signs could show
