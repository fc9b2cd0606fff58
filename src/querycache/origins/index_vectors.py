"""The matrix of an index's vectors in memory, and the exact scan of it.

A matrix is immutable and belongs to one change of one index. The next one shares its rows: rows
are only ever appended behind the last that any earlier matrix sees, and what was removed is masked
until a quarter of the rows is gone. The similarity of a row depends on nothing but the row and the
question: numpy's einsum sums each row alone, in one order, where the sums of a BLAS product depend
on the place of the row. So equal content gives equal rankings whatever its history.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from querycache.origins.index_signs import Floats, Integers, Signs

ORDINAL_BITS = 20
"""A chunk's number is its file's number and, in the low bits, its place in the file."""

PREFILTER_FROM = 200_000
"""Rows from which on sign bits choose the candidates of the exact scan."""

LEAST = 1e-6
"""The least cosine that counts."""

CANDIDATES = 3_200
_PARALLEL_FROM = 16_384
_COMPACT_FROM = 1_024

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Matrix:
    """`rows[:count]` are the vectors of the chunks `ids[:count]`; those not `alive` are gone."""

    rows: Floats
    ids: Integers
    alive: Mask
    signs: Signs | None = None

    @classmethod
    def empty(cls, dimensions: int) -> Matrix:
        shape = (0, dimensions)
        return cls(np.empty(shape, np.float32), np.empty(0, np.int64), np.empty(0, np.bool_))

    @property
    def count(self) -> int:
        return len(self.alive)

    def changed(self, gone: Sequence[int], new: Sequence[tuple[int, bytes]]) -> Matrix:
        """Without the files `gone`, with the float32 rows of the files `new`. Only the newest
        matrix of a line may be asked.
        """
        shrunk = self._without(gone) if gone else self
        return shrunk._with(new) if new else shrunk  # noqa: SLF001 -- of this class

    def nearest(
        self,
        query: Floats,
        depth: int,
        files: Integers | None = None,
        pool: ThreadPoolExecutor | None = None,
    ) -> list[tuple[int, float]]:
        """(chunk, cosine) of the `depth` most similar, and of all that tie with the last; only
        positive cosines, to six decimals. `files` limits the search to their chunks.
        """
        eligible = self.alive
        if files is not None:
            eligible = eligible & np.isin(self.ids[: self.count] >> ORDINAL_BITS, files)
        eligible_count = int(np.count_nonzero(eligible))
        chosen: Integers | None = None
        if self.signs is not None and eligible_count > PREFILTER_FROM:
            chosen = self.signs.nearest(query, eligible, max(CANDIDATES, 8 * depth))
        elif eligible_count < self.count // 4:
            chosen = np.flatnonzero(eligible)
        if chosen is None:
            similar = _scan(self.rows[: self.count], query, pool)
            similar[~eligible] = -1
            ids = self.ids[: self.count]
        else:
            similar = _scan(self.rows[chosen], query, pool)
            ids = self.ids[chosen]
        similar = _rounded(similar)
        best = np.flatnonzero(similar >= max(last_of(similar, depth), LEAST))
        return list(zip(ids[best].tolist(), similar[best].tolist(), strict=True))

    def _without(self, gone: Sequence[int]) -> Matrix:
        count = self.count
        dying = self.alive & np.isin(self.ids[:count] >> ORDINAL_BITS, gone)
        alive = self.alive & ~dying
        living = int(np.count_nonzero(alive))
        if count >= _COMPACT_FROM and living < 0.75 * count:
            rows, ids = self.rows[:count][alive], self.ids[:count][alive]
            return _signed(Matrix(rows, ids, alive[alive]))
        signs = self.signs
        if signs is not None:
            signs = signs.changed(self.rows[:count], self.rows[:count][dying], 0)
        return Matrix(self.rows, self.ids, alive, signs)

    def _with(self, new: Sequence[tuple[int, bytes]]) -> Matrix:
        dimensions = self.rows.shape[1]
        added = np.frombuffer(b"".join(data for _, data in new), np.float32)
        added = added.reshape(-1, dimensions)
        numbers = [
            (file << ORDINAL_BITS) + np.arange(len(data) // (4 * dimensions), dtype=np.int64)
            for file, data in new
        ]
        before, count = self.count, self.count + len(added)
        rows, ids = self.rows, self.ids
        if count > len(rows):
            room = count + count // 8
            rows, ids = np.empty((room, dimensions), np.float32), np.empty(room, np.int64)
            rows[:before], ids[:before] = self.rows[:before], self.ids[:before]
        rows[before:count], ids[before:count] = added, np.concatenate(numbers)
        alive = np.concatenate([self.alive, np.ones(len(added), np.bool_)])
        if self.signs is None:
            return _signed(Matrix(rows, ids, alive))
        signs = self.signs.changed(rows[:count], added[:0], len(added))
        return Matrix(rows, ids, alive, signs)


def similarities(rows: Floats, query: Floats) -> NDArray[np.float64]:
    """The cosine of each row, to six decimals."""
    return _rounded(_scan(rows, query, None))


def last_of(similar: NDArray[np.float64], depth: int) -> float:
    """The value of the `depth`th largest; -1 where there are fewer."""
    if len(similar) <= depth:
        return -1.0
    return float(np.partition(similar, len(similar) - depth)[len(similar) - depth])


def _signed(matrix: Matrix) -> Matrix:
    if matrix.count <= PREFILTER_FROM:
        return matrix
    signs = Signs.of(matrix.rows[: matrix.count], matrix.alive)
    return Matrix(matrix.rows, matrix.ids, matrix.alive, signs)


def _scan(rows: Floats, query: Floats, pool: ThreadPoolExecutor | None) -> Floats:
    similar = np.empty(len(rows), np.float32)
    if pool is None or len(rows) < _PARALLEL_FROM:
        np.einsum("ij,j->i", rows, query, out=similar)
        return similar
    half = len(rows) // 2
    other = pool.submit(np.einsum, "ij,j->i", rows[half:], query, out=similar[half:])
    np.einsum("ij,j->i", rows[:half], query, out=similar[:half])
    other.result()
    return similar


def _rounded(similar: Floats) -> NDArray[np.float64]:
    return np.round(similar.astype(np.float64), 6)
