"""Hostile bytes in L2: foreign pickles, noise, bombs. Nothing runs, nothing swells, nothing raises
but `UnreadableError`.
"""

from __future__ import annotations

import random
import resource
import struct
import sys
import threading
import tracemalloc
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import cast

import lz4.block  # pyright: ignore[reportMissingTypeStubs]  # ships none
import msgspec
import numpy as np
import pytest
import zstandard
from tests.behaviour.codec_suite import KEY, PATH, PATHS, REASONS, VECTOR, exact, record

from querycache.codec import envelope
from querycache.codec.envelope import Compressor
from querycache.codec.pipeline import Pipeline
from querycache.errors import UnreadableError
from querycache.ports.codec import ANY, Body, Form, Record, Shape

MIB = 1024 * 1024
SHAPES = (ANY, PATHS, VECTOR)
PICKLES = (
    b"cos\nsystem\n(S'touch /tmp/owned'\ntR.",
    b"c__builtin__\neval\n(S'__import__(\"os\").abort()'\ntR.",
    b"\x80\x02cposix\nsystem\nq\x00X\x02\x00\x00\x00idq\x01\x85q\x02Rq\x03.",
    b"\x80\x04\x95\x1e\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R.",
    b"\x80\x05\x95\x05\x00\x00\x00\x00\x00\x00\x00K\x01.",
)

_lz4 = cast("Callable[..., bytes]", lz4.block.compress)
_watched: list[str] | None = None
_thread = threading.get_ident()
_RUNS_CODE = ("exec", "compile", "import", "open", "os.", "subprocess.", "pickle.", "ctypes.")


def _audit(event: str, _: tuple[object, ...]) -> None:
    watched = _watched
    if watched is None:  # asked first: when the process ends, modules go before this hook does
        return
    if threading.get_ident() == _thread and event.startswith(_RUNS_CODE):
        watched.append(event)


sys.addaudithook(_audit)  # stays until the process ends, and listens only inside `watching`


@contextmanager
def watching() -> Generator[list[str]]:
    """The events that would mean that something ran."""
    global _watched  # noqa: PLW0603 -- an audit hook can't be taken out again
    _watched = events = []
    try:
        yield events
    finally:
        _watched = None


@contextmanager
def little_memory(most: int = 32 * MIB) -> Generator[None]:
    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] <= most
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 <= most
    finally:
        tracemalloc.stop()


def reason(data: bytes, shape: Shape = ANY) -> str:
    codec = Pipeline()
    with pytest.raises(UnreadableError) as caught:
        codec.decode(codec.open(KEY, data, shape).body, shape)
    assert caught.value.reason in REASONS
    return caught.value.reason


def whole(
    stored: bytes,
    form: Form = Form.MSGPACK,
    *,
    compressor: Compressor = Compressor.NONE,
    raw_length: int | None = None,
) -> bytes:
    """An envelope in order around bytes that are not."""
    sealed = bytearray(envelope.pack(record(Body(b"", form, shareable=True)), stored, compressor))
    struct.pack_into(">I", sealed, 75, len(stored) if raw_length is None else raw_length)
    return bytes(sealed[:-16]) + envelope.xxh3_128_digest(bytes(sealed[:-16]))


def test_the_watch_sees_what_runs() -> None:
    with watching() as events:
        exec("import wsgiref.types")  # noqa: S102 -- what must not happen, to see that it shows
    assert {"exec", "compile", "import"} <= set(events)


@pytest.mark.parametrize("pickled", PICKLES)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.form.name)
def test_a_foreign_pickle_runs_nothing(pickled: bytes, shape: Shape) -> None:
    reason(whole(b"warm", shape.form), shape)  # what Python itself loads lazily
    inside = [
        msgspec.msgpack.encode(msgspec.msgpack.Ext(code, pickled)) for code in range(-128, 128)
    ]
    with watching() as events:
        assert reason(pickled, shape) == "bad_magic"
        assert reason(whole(pickled, shape.form), shape) == "bad_body"
        outcomes = {outcome(whole(body, shape.form), shape) for body in inside}
    assert events == []
    assert "bad_body" in outcomes


def outcome(data: bytes, shape: Shape) -> str:
    """Why it did not open, or "plain" where it is plain data."""
    codec = Pipeline()
    try:
        value = codec.decode(codec.open(KEY, data, shape).body, shape)
    except UnreadableError as error:
        return error.reason
    assert type(value).__module__ in {"builtins", "datetime", "numpy", PATH.__module__}
    return "plain"


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.form.name)
@pytest.mark.parametrize("step", [b"\x91", b"\x81\xa1a", b"\x81\xa6points\x91", b"\xc7\xff\x03"])
def test_nesting_without_end_is_unreadable(step: bytes, shape: Shape) -> None:
    assert reason(whole(step * 100_000, shape.form), shape) == "bad_body"


def test_sizes_that_are_claimed_cost_nothing() -> None:
    headers = (b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xc9")
    with little_memory(MIB):
        for header in headers:
            assert reason(whole(header + b"\xff\xff\xff\xff" + b"\x03" * 50)) == "bad_body"
            assert reason(whole((header + b"\x7f\xff\xff\xff") * 20)) == "bad_body"


def _zstd_of_zeros(size: int) -> bytes:
    pressing = zstandard.ZstdCompressor(level=1).compressobj(size=size)
    zeros = bytes(MIB)
    return b"".join(pressing.compress(zeros) for _ in range(size // MIB)) + pressing.flush()


def test_a_zstd_bomb_costs_no_memory() -> None:
    bomb = _zstd_of_zeros(1024 * MIB)
    assert len(bomb) < 40_000
    assert zstandard.frame_content_size(bomb) == 1024 * MIB
    at = bomb.index(struct.pack("<I", 1024 * MIB))
    for claimed in (0, 1, MIB, 16 * MIB, 16 * MIB + 1, 1024 * MIB, 2**32 - 1):
        lying = bomb[:at] + struct.pack("<I", claimed) + bomb[at + 4 :]
        for frame in (bomb, lying, bomb[: len(bomb) // 2], lying[:-3]):
            data = whole(frame, compressor=Compressor.ZSTD, raw_length=claimed)
            with little_memory():
                assert reason(data) == ("too_big" if claimed > ANY.max_bytes else "bad_body")


def test_a_zstd_frame_without_a_size_costs_no_memory() -> None:
    pressing = zstandard.ZstdCompressor(level=1).compressobj()
    bomb = b"".join(pressing.compress(bytes(MIB)) for _ in range(256)) + pressing.flush()
    with little_memory():
        data = whole(bomb, compressor=Compressor.ZSTD, raw_length=MIB)
        assert reason(data) == "bad_body"


def test_an_lz4_bomb_costs_no_memory() -> None:
    bomb = _lz4(bytes(256 * MIB), store_size=False)
    for claimed in (0, 1, MIB, 16 * MIB, 16 * MIB + 1, 256 * MIB, 2**32 - 1):
        data = whole(bomb, compressor=Compressor.LZ4, raw_length=claimed)
        with little_memory():
            assert reason(data) == ("too_big" if claimed > ANY.max_bytes else "bad_body")
    with little_memory(MIB):
        data = whole(bomb[:1000], compressor=Compressor.LZ4, raw_length=16 * MIB)
        assert reason(data) == "bad_body"


def some_envelopes() -> list[tuple[bytes, Shape]]:
    codec = Pipeline(threshold=64)
    values: list[tuple[object, Shape]] = [
        ({"text": "words " * 40, "tuple": (1, 2, frozenset({3}))}, ANY),
        (PATH, PATHS),
        (np.ones((3, 2)), VECTOR),
    ]
    return [
        (codec.seal(record(codec.encode(value, shape)), shape), shape) for value, shape in values
    ]


def fuzz(trials: int, seed: int) -> set[str]:
    """Noise as envelopes, and envelopes in order around mutated bodies."""
    draw = random.Random(seed)  # noqa: S311 -- noise, not secrets
    codec = Pipeline()
    bodies = [
        (codec.open(KEY, sealed, shape).body.data, shape) for sealed, shape in some_envelopes()
    ]
    outcomes: set[str] = set()
    for trial in range(trials):
        body, shape = bodies[trial % len(bodies)]
        noise = draw.randbytes(draw.randrange(64))
        if trial % 4 == 0:
            outcomes.add(outcome(noise, shape))
            continue
        at = draw.randrange(len(body) + 1)
        stored = body[:at] + noise[: trial % 5] + body[at + trial % 3 :]
        compressor = Compressor(trial % 8) if trial % 8 < len(Compressor) else Compressor.NONE
        raw_length = draw.choice((None, len(stored) * 2, len(body)))
        outcomes.add(
            outcome(whole(stored, shape.form, compressor=compressor, raw_length=raw_length), shape)
        )
    return outcomes


def check_fuzzed(trials: int, seed: int) -> None:
    outcomes = fuzz(trials, seed)
    assert {"bad_magic", "bad_header", "bad_body", "plain"} <= outcomes <= REASONS | {"plain"}


def test_fuzzed_bytes_raise_nothing_else() -> None:
    check_fuzzed(6000, seed=20)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(3))
def test_fuzzed_bytes_raise_nothing_else_at_full_size(seed: int) -> None:
    check_fuzzed(100_000, seed)


def test_two_entries_whose_values_were_swapped_do_not_open() -> None:
    codec = Pipeline()
    names = [f"codebase_rag:search:{project}:{'0' * 32}" for project in ("a", "b")]
    sealed = [
        codec.seal(Record(name, codec.encode({"of": name}), 0.0, 1.0, 2.0)) for name in names
    ]
    for name, data in zip(names, reversed(sealed), strict=True):
        with pytest.raises(UnreadableError, match="wrong_key"):
            codec.open(name, data)
    for name, data in zip(names, sealed, strict=True):
        assert exact(codec.decode(codec.open(name, data).body)) == exact({"of": name})
