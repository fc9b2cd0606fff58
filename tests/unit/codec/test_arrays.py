"""Arrays as bytes: the header, and nonsense in it."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from querycache.codec import arrays


@pytest.mark.parametrize("shape", [(5,), (0,), (2, 3), (2, 1, 1, 3), ()])
def test_the_numbers_begin_at_a_multiple_of_16_and_are_not_copied(shape: tuple[int, ...]) -> None:
    data = arrays.dump(np.ones(shape))
    assert (len(data) - 8 * int(np.prod(shape))) % 16 == 0
    back = arrays.load(data)
    assert back.shape == shape
    assert back.flags.aligned
    assert np.shares_memory(back, np.frombuffer(data, np.uint8)) == (back.size > 0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x0a\x01",
        struct.pack("<BB6xQ", 0x0E, 1, 0),  # no such dtype
        struct.pack("<BB6xQ", 0xFF, 1, 0),
        struct.pack("<BB6xQ", 0x0A, 1, 1),  # numbers missing
        struct.pack("<BB6xQf", 0x0A, 1, 2, 1.0),
        struct.pack("<BB6xQ3x", 0x0A, 1, 0),  # not whole numbers
        struct.pack("<BB6xQ", 0x0A, 255, 0),  # dimensions missing
        struct.pack("<BB6xQQ8x", 0x0A, 2, 2**63, 2**63),
        struct.pack("<BB6xQQ8xf", 0x0A, 2, 2**32, 2**32, 1.0),
        struct.pack("<BB6xQQ8xff", 0x0A, 2, 2**64 - 1, 2, 1.0, 1.0),  # -1 is no size
    ],
)
def test_a_header_that_lies_raises(data: bytes) -> None:
    with pytest.raises((ValueError, KeyError, struct.error, OverflowError)):
        arrays.load(data)
