"""Sign bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from querycache.origins.index_signs import Signs

Floats = NDArray[np.float32]


def rows_of(seed: int, count: int, dimensions: int = 70) -> Floats:
    rows = np.random.default_rng(seed).standard_normal((count, dimensions)) + 0.4
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_a_row_is_nearest_to_itself() -> None:
    rows = rows_of(1, 500)
    signs = Signs.of(rows, np.ones(500, np.bool_))
    for row in range(0, 500, 50):
        assert row in signs.nearest(rows[row], np.ones(500, np.bool_), 1)


def test_only_eligible_rows_are_given() -> None:
    rows = rows_of(2, 300)
    eligible = np.arange(300) % 3 == 0
    found = Signs.of(rows, np.ones(300, np.bool_)).nearest(rows[1], eligible, 50)
    assert 50 <= len(found) <= 100
    assert np.all(eligible[found])
    everything = Signs.of(rows, np.ones(300, np.bool_)).nearest(rows[1], eligible, 1000)
    assert everything.tolist() == np.flatnonzero(eligible).tolist()


def test_followed_signs_are_those_made_anew() -> None:
    rows = rows_of(3, 900)
    alive = np.ones(400, np.bool_)
    signs = Signs.of(rows[:400], alive)
    for step in range(5):
        count = 400 + 100 * step
        alive[step * 40 : step * 40 + 40] = False
        signs = signs.changed(rows[:count], rows[step * 40 : step * 40 + 40], 0)
        alive = np.concatenate([alive, np.ones(100, np.bool_)])
        signs = signs.changed(rows[: count + 100], rows[:0], 100)
        anew = Signs.of(rows[: count + 100], alive)
        assert np.array_equal(signs.total, anew.total)
        assert np.array_equal(signs.centre, anew.centre)
        assert np.array_equal(signs.bits, anew.bits)


def test_the_centre_does_not_depend_on_the_order() -> None:
    rows = rows_of(4, 1000)
    alive = np.ones(1000, np.bool_)
    assert np.array_equal(Signs.of(rows, alive).centre, Signs.of(rows[::-1], alive).centre)
