"""Compression of bodies: LZ4 blocks or Zstandard level 1, and unpacking that can't be made to
swell.

The raw length stands in the envelope and was judged before; here it is the exact size that comes
out, or nothing does. Neither algorithm writes a byte past it: an LZ4 block is unpacked into a
buffer of that size (refused before if no block of its length could fill it), a Zstandard frame
must itself state that size, and is unpacked in one pass into a buffer of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import cast

import lz4.block  # pyright: ignore[reportMissingTypeStubs]  # ships none
import zstandard

from querycache.codec.envelope import Compressor
from querycache.errors import UnreadableError

_KEEP = 0.9  # what is not at least a tenth smaller is not worth unpacking on each read
_LZ4_RATIO = 255  # the most that one byte of a block can stand for

_lz4_compress = cast("Callable[..., bytes]", lz4.block.compress)
_lz4_decompress = cast("Callable[..., bytes]", lz4.block.decompress)
_Lz4Error = cast("type[Exception]", lz4.block.LZ4BlockError)


class _Contexts(threading.local):
    """Zstandard's contexts release the GIL while they work and must not be shared by threads."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=1, write_content_size=True)
        self.decompressor = zstandard.ZstdDecompressor()


_contexts = _Contexts()


def compress(data: bytes, compressor: Compressor) -> bytes | None:
    """The packed bytes, or None where packing saves less than 10 %, or finds no memory."""
    try:
        if compressor is Compressor.LZ4:
            packed = _lz4_compress(data, store_size=False)
        elif compressor is Compressor.ZSTD:
            packed = _contexts.compressor.compress(data)
        else:
            return None
    except MemoryError:
        return None
    return packed if len(packed) <= _KEEP * len(data) else None


def expand(packed: bytes, compressor: Compressor, raw_length: int) -> bytes:
    """What `compress` was given: exactly `raw_length` bytes, a number that the caller has checked
    against its limit.

    Raises:
        UnreadableError: bad_body.
    """
    try:
        if compressor is Compressor.LZ4:
            raw = _expand_lz4(packed, raw_length)
        elif compressor is Compressor.ZSTD:
            raw = _expand_zstd(packed, raw_length)
        else:
            raw = packed
    except (_Lz4Error, zstandard.ZstdError, ValueError, MemoryError) as error:
        raise UnreadableError("bad_body") from error
    if len(raw) != raw_length:
        raise UnreadableError("bad_body")
    return raw


def _expand_lz4(packed: bytes, raw_length: int) -> bytes:
    if raw_length > len(packed) * _LZ4_RATIO:
        raise UnreadableError("bad_body")
    return _lz4_decompress(packed, uncompressed_size=raw_length)


def _expand_zstd(packed: bytes, raw_length: int) -> bytes:
    if zstandard.frame_content_size(packed) != raw_length:
        raise UnreadableError("bad_body")
    return _contexts.decompressor.decompress(packed, allow_extra_data=False)


def unpack_frame(packed: bytes, limit: int) -> bytes:
    """A Zstandard frame of any origin, unpacked to at most `limit` bytes whatever its header says.

    Raises:
        ValueError: it does not unpack, or holds more.
    """
    try:
        with zstandard.ZstdDecompressor().stream_reader(packed) as reader:
            plain = reader.read(limit + 1)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
    if len(plain) > limit:
        raise ValueError(f"more than {limit} bytes")
    return plain
