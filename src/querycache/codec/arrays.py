"""ndarrays as bytes: a small header, then the raw numbers in C order.

The header is a dtype code (1), the number of dimensions (1), six zeros, and 8 bytes for each
dimension (little-endian), filled up to a multiple of 16 so that the numbers stay aligned. Plain
dtypes only (bool, int, uint, float, complex; either byte order). What comes back is read-only, of
the same dtype and shape, and in C order.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from querycache.errors import UnsupportedValueError

Array: TypeAlias = NDArray[Any]

_HEAD = Struct("<BB6x")
_VECTOR = Struct("<BB6xQ")
_ALIGN = 16
_BIG = 0x40
_HALF = 0x80
_NAMES = ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]
_DTYPES: dict[int, np.dtype[Any]] = {
    code | flag: np.dtype(order + name)
    for flag, order in ((0, "<"), (_BIG, ">"))
    for code, name in enumerate(_NAMES)
}
_CODES = {dtype: code for code, dtype in reversed(_DTYPES.items())}
_FLOAT32 = np.dtype(np.float32)
_FLOAT16 = np.dtype("<f2")
_DTYPES[_HALF] = _FLOAT16


def dump(array: Array, *, half: bool = False) -> bytes:
    """The bytes of an array.

    Args:
        array: Of a plain dtype and any shape.
        half: Store a float32 array as float16. It comes back as float32, each number within
            2**-11 of itself (relative, from 2**-14 up) or 2**-25 (absolute, below).

    Raises:
        UnsupportedValueError: Another dtype; with `half` any but float32, or a number that float16
            can't hold (65,520 and more).
    """
    code = _CODES.get(array.dtype)
    if code is None:
        raise UnsupportedValueError(f"an array of dtype {array.dtype} can't be cached")
    if half:
        array, code = _halved(array), _HALF
    if array.ndim == 1:
        head = _VECTOR.pack(code, 1, array.size)
    else:
        head = _HEAD.pack(code, array.ndim) + np.array(array.shape, "<u8").tobytes()
        head += bytes(-len(head) % _ALIGN)
    return head + array.tobytes()


def load(data: bytes) -> Array:
    """What `dump` was given, read-only, over these very bytes where nothing was halved.

    Raises:
        Exception: Of any kind that struct and numpy raise on nonsense.
    """
    code, ndim, size = _VECTOR.unpack_from(data)
    dtype = _DTYPES[code]
    if ndim == 1:
        array = np.frombuffer(data, dtype, -1, _ALIGN)
        if array.size != size:
            raise ValueError("length and header disagree")
    else:
        shape = np.frombuffer(data, "<u8", ndim, _HEAD.size).tolist()
        start = _HEAD.size * (ndim + 1)
        array = np.frombuffer(data, dtype, -1, start + -start % _ALIGN).reshape(shape)
    if code == _HALF:
        array = array.astype(_FLOAT32)
        array.flags.writeable = False
    return array


def _halved(array: Array) -> Array:
    if array.dtype != _FLOAT32:
        raise UnsupportedValueError(f"only float32 can be stored as float16, not {array.dtype}")
    try:
        with np.errstate(over="raise", under="ignore", invalid="ignore"):
            return array.astype(_FLOAT16)
    except FloatingPointError as error:
        raise UnsupportedValueError("the array holds a number too large for float16") from error
