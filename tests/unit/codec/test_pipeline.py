"""The pipeline under each compression setting."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import pytest
from tests.behaviour.codec_suite import KEY, VECTOR, CodecSuite, record

from querycache.codec.envelope import Compressor
from querycache.codec.pipeline import Pipeline
from querycache.ports.codec import ANY, Codec, Form, Shape

Compression: TypeAlias = Literal["lz4", "zstd", "none"]
COMPRESSIONS: tuple[Compression, ...] = ("lz4", "zstd", "none")


class TestLz4(CodecSuite):
    @pytest.fixture
    def codec(self) -> Codec:
        return Pipeline()


class TestZstd(CodecSuite):
    @pytest.fixture
    def codec(self) -> Codec:
        return Pipeline(compression="zstd", threshold=100)


class TestUncompressed(CodecSuite):
    @pytest.fixture
    def codec(self) -> Codec:
        return Pipeline(compression="none")


def compressor_of(sealed: bytes) -> Compressor:
    return Compressor(sealed[3] & 7)


def seal(pipeline: Pipeline, value: object, shape: Shape = ANY) -> bytes:
    return pipeline.seal(record(pipeline.encode(value, shape)), shape)


def of_size(size: int) -> bytes:
    """Compressible, and encoded in `size` bytes."""
    return b"a" * (size - 3)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_only_bodies_above_the_threshold_are_compressed(compression: Compression) -> None:
    pipeline = Pipeline(compression=compression)
    for size, packed in ((1023, False), (1024, False), (1025, True)):
        assert len(pipeline.encode(of_size(size)).data) == size
        used = compressor_of(seal(pipeline, of_size(size)))
        assert used is (Compressor[compression.upper()] if packed else Compressor.NONE)


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_what_saves_less_than_a_tenth_stays_as_it_is(compression: Compression) -> None:
    pipeline = Pipeline(compression=compression)
    noise = np.random.default_rng(3).bytes(20_000)
    for tail, packed in ((1_000, False), (4_000, True)):
        sealed = seal(pipeline, noise + bytes(tail))
        assert (compressor_of(sealed) is not Compressor.NONE) is packed
        assert pipeline.decode(pipeline.open(KEY, sealed).body) == noise + bytes(tail)


def test_vectors_and_kinds_that_say_no_are_never_compressed() -> None:
    pipeline = Pipeline(threshold=0)
    assert compressor_of(seal(pipeline, np.zeros(5000), VECTOR)) is Compressor.NONE
    assert compressor_of(seal(pipeline, bytes(5000), Shape(compress=False))) is Compressor.NONE
    assert compressor_of(seal(pipeline, bytes(5000))) is Compressor.LZ4


def test_each_setting_reads_what_any_other_wrote() -> None:
    value = {"text": "some words " * 500}
    for writing in COMPRESSIONS:
        sealed = seal(Pipeline(compression=writing), value)
        for reading in COMPRESSIONS:
            reader = Pipeline(compression=reading)
            assert reader.decode(reader.open(KEY, sealed).body) == value


def test_the_flags_carry_form_and_compressor() -> None:
    pipeline = Pipeline(compression="zstd")
    assert seal(pipeline, 1)[3] == Form.MSGPACK << 3
    assert seal(pipeline, np.zeros(1), VECTOR)[3] == Form.VECTOR << 3
    assert seal(pipeline, bytes(5000))[3] == Compressor.ZSTD


def test_its_own_limit_holds_whatever_the_shape_allows() -> None:
    sealed = seal(Pipeline(), bytes(5000))
    with pytest.raises(Exception, match="too_big"):
        Pipeline(max_bytes=4999).open(KEY, sealed)
