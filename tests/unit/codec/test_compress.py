"""Compression: what is kept, and what never comes out."""

from __future__ import annotations

from contextlib import suppress

import lz4.block  # pyright: ignore[reportMissingTypeStubs]  # ships none
import pytest
import zstandard

from querycache.codec.compress import compress, expand
from querycache.codec.envelope import Compressor
from querycache.errors import UnreadableError

BOTH = (Compressor.LZ4, Compressor.ZSTD)
TEXT = b"some words that come again, " * 100


@pytest.mark.parametrize("compressor", BOTH)
def test_what_was_packed_comes_out(compressor: Compressor) -> None:
    packed = compress(TEXT, compressor)
    assert packed is not None
    assert len(packed) < len(TEXT) / 5
    assert expand(packed, compressor, len(TEXT)) == TEXT


@pytest.mark.parametrize("compressor", Compressor)
def test_what_is_not_worth_it_is_not_packed(compressor: Compressor) -> None:
    assert compress(bytes(range(256)), compressor) is None


def test_without_compression_bytes_pass() -> None:
    assert compress(TEXT, Compressor.NONE) is None
    assert expand(TEXT, Compressor.NONE, len(TEXT)) == TEXT
    with pytest.raises(UnreadableError, match="bad_body"):
        expand(TEXT, Compressor.NONE, 1)


@pytest.mark.parametrize("compressor", BOTH)
@pytest.mark.parametrize("off_by", [-2800, -1, 1, 5000, 2**32 - 3000])
def test_another_raw_length_than_stated_is_unreadable(compressor: Compressor, off_by: int) -> None:
    packed = compress(TEXT, compressor)
    assert packed is not None
    with pytest.raises(UnreadableError, match="bad_body"):
        expand(packed, compressor, len(TEXT) + off_by)


@pytest.mark.parametrize("compressor", BOTH)
def test_damaged_bytes_are_unreadable_or_wrong_but_never_raise_anything_else(
    compressor: Compressor,
) -> None:
    packed = compress(TEXT, compressor)
    assert packed is not None
    for bit in range(len(packed) * 8):
        flipped = bytearray(packed)
        flipped[bit // 8] ^= 1 << bit % 8
        with suppress(UnreadableError):
            assert len(expand(bytes(flipped), compressor, len(TEXT))) == len(TEXT)
    for end in range(len(packed)):
        with pytest.raises(UnreadableError, match="bad_body"):
            expand(packed[:end], compressor, len(TEXT))


def test_a_zstd_frame_that_hides_its_size_or_has_company_is_unreadable() -> None:
    hidden = zstandard.ZstdCompressor(write_content_size=False).compress(TEXT)
    twice = zstandard.ZstdCompressor().compress(TEXT) * 2
    for packed in (hidden, twice, b"", b"(\xb5/\xfd"):
        with pytest.raises(UnreadableError, match="bad_body"):
            expand(packed, Compressor.ZSTD, len(TEXT))


def test_an_lz4_block_with_a_size_before_it_is_unreadable() -> None:
    with_size: bytes = lz4.block.compress(TEXT)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    with pytest.raises(UnreadableError, match="bad_body"):
        expand(with_size, Compressor.LZ4, len(TEXT))  # pyright: ignore[reportUnknownArgumentType]
