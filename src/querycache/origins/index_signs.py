"""A coarse first pass over many vectors: one sign bit a dimension, compared by Hamming distance.

Signs are taken relative to the mean of the rows, since the vectors of one corpus share a
direction. The mean is summed in integers, so it doesn't depend on the order of the rows, and
rounded to 1/64, so that an edit seldom moves it and only new rows need new signs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_UNIT = float(1 << 20)
"""What a sum counts in: 2^-20."""

_GRID = 64.0
_STEP = 16_384
"""Rows at a time, to bound the memory of intermediate arrays."""

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
Bits = NDArray[np.uint64]


@dataclass(frozen=True)
class Signs:
    """The signs of rows, dead ones too; `total` sums the living only."""

    total: Integers
    living: int
    centre: Floats
    bits: Bits

    @classmethod
    def of(cls, rows: Floats, alive: NDArray[np.bool_]) -> Signs:
        """From nothing."""
        total = np.zeros(rows.shape[1], np.int64)
        for at in range(0, len(rows), _STEP):
            total += _sum(rows[at : at + _STEP][alive[at : at + _STEP]])
        living = int(np.count_nonzero(alive))
        centre = _centre(total, living)
        return cls(total, living, centre, _pack(rows, centre))

    def changed(self, rows: Floats, removed: Floats, added: int) -> Signs:
        """After the rows `removed` died and the last `added` of `rows` came."""
        new = rows[len(rows) - added :]
        total = self.total - _sum(removed) + _sum(new)
        living = self.living - len(removed) + added
        centre = _centre(total, living)
        if np.array_equal(centre, self.centre):
            bits = np.concatenate([self.bits, _pack(new, centre)])
        else:
            bits = _pack(rows, centre)
        return Signs(total, living, centre, bits)

    def nearest(self, query: Floats, eligible: NDArray[np.bool_], count: int) -> Integers:
        """The rows of the `count` smallest distances, and all that tie with the last."""
        asked = _pack(query[None, :], self.centre)[0]
        distances = np.bitwise_count(self.bits ^ asked).sum(1, dtype=np.uint16)
        distances[~eligible] = np.iinfo(np.uint16).max
        histogram = np.cumsum(np.bincount(distances))
        furthest = int(np.searchsorted(histogram, count))
        return np.flatnonzero(distances <= min(furthest, np.iinfo(np.uint16).max - 1))


def _sum(rows: Floats) -> Integers:
    return np.rint(rows.astype(np.float64) * _UNIT).astype(np.int64).sum(0)


def _centre(total: Integers, living: int) -> Floats:
    return (np.rint(total / (max(living, 1) * _UNIT) * _GRID) / _GRID).astype(np.float32)


def _pack(rows: Floats, centre: Floats) -> Bits:
    width = -(-rows.shape[1] // 64) * 8  # bytes, whole words
    packed = np.zeros((len(rows), width), np.uint8)
    for at in range(0, len(rows), _STEP):
        part = np.packbits(rows[at : at + _STEP] > centre, axis=1)
        packed[at : at + len(part), : part.shape[1]] = part
    return packed.view(np.uint64)
