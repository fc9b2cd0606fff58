"""The envelope's layout: golden bytes of format version 1, and what is wrong inside a whole
one.
"""

from __future__ import annotations

import struct

import numpy as np
import pytest
from tests.behaviour.codec_suite import HALF, KEY, PATH, PATHS, VECTOR, exact
from xxhash import xxh3_128_digest

from querycache.codec import envelope
from querycache.codec.envelope import Compressor
from querycache.codec.pipeline import Pipeline
from querycache.errors import UnreadableError
from querycache.ports.codec import ANY, Body, Form, Record, Shape
from querycache.values import Stamp

NUMBERS = np.array([0.5, -2.0], np.float32)
CLEAR = "0000000000000000000000000000000000000000000000000000000000000000 41d954fcd6080000"
TIMES = "41d954fc40000000 41d954fc4f000000 3fd0000000000000"
NAME = "636f6465626173655f7261673a6f746865723a5f3a6b"

GOLDEN = {
    "any": (
        {"a": (1, None, 2**64)},
        ANY,
        (("meta:é", Stamp(2**64 - 1, 7)),),
        f"""514301 00 {CLEAR} {TIMES} 00 00000019 0016 00000015
        0007 ffffffffffffffff 0000000000000007 6d6574613ac3a9 {NAME}
        81a161c70f039301c0c70901000000000000000001 3365ca8c801f1ee17537d75fa49a8811""",
    ),
    "vector": (
        NUMBERS,
        VECTOR,
        (),
        f"""514301 10 {CLEAR} {TIMES} 01 00000000 0016 00000018 {NAME}
        0a01000000000000 0200000000000000 0000003f000000c0
        64c1eee9b1dbcb1d87ee509bc0849514""",
    ),
    "half": (
        NUMBERS,
        HALF,
        (),
        f"""514301 10 {CLEAR} {TIMES} 01 00000000 0016 00000014 {NAME}
        8001000000000000 0200000000000000 003800c0 eb4b0e6c911b1973c6dae539b664e632""",
    ),
    "struct": (
        PATH,
        PATHS,
        (),
        f"""514301 08 {CLEAR} {TIMES} 01 00000000 0016 0000003d {NAME}
        82a6706f696e74739282a178cb3ff8000000000000a56c6162656ca16182a178cb7ff0000000000000a56c61
        62656ca2c3a9a46d616465d6ff65dfc900 d4604752047d3381f2f557f283f2f90f""",
    ),
    "lz4": (
        "ab" * 600,
        ANY,
        (),
        f"""514301 02 {CLEAR} {TIMES} 01 00000000 0016 000004b3 {NAME}
        5fda04b061620200ffffffff9a506261626162 6e8317cf7831fdef9fad970bfbd06f9a""",
    ),
    "zstd": (
        "ab" * 600,
        ANY,
        (),
        f"""514301 01 {CLEAR} {TIMES} 01 00000000 0016 000004b3 {NAME}
        28b52ffd60b30365000028da04b061620100abf43b2d f6795ecb0078a46ea84fa30ea2451be7""",
    ),
}


def sample(body: Body, tags: tuple[tuple[str, Stamp], ...] = ()) -> Record:
    return Record(KEY, body, 1.7e9, 1.7e9 + 60, 1.7e9 + 600.125, 0.25, tags)


def reason(data: bytes, key: str = KEY) -> str:
    with pytest.raises(UnreadableError) as caught:
        envelope.unpack(key, data)
    return caught.value.reason


def checked(data: bytes | bytearray) -> bytes:
    """The same with the checksum that it should have."""
    return bytes(data[:-16]) + xxh3_128_digest(data[:-16])


def changed(at: int, fields: str, *values: float) -> bytes:
    """A whole envelope with other numbers at one place."""
    data = bytearray(envelope.pack(sample(BODY, TAGS), BODY.data, Compressor.NONE))
    struct.pack_into(fields, data, at, *values)
    return checked(data)


BODY = Body(b"\x01", Form.MSGPACK, shareable=True)
TAGS = (("tag", Stamp(1, 2)),)


@pytest.mark.parametrize("name", GOLDEN)
def test_version_1_reads_as_it_ever_did(name: str) -> None:
    value, shape, tags, golden = GOLDEN[name]
    codec = Pipeline()
    opened = codec.open(KEY, bytes.fromhex(golden), shape)
    assert opened == sample(codec.encode(value, shape), tags)
    assert exact(codec.decode(opened.body, shape)) == exact(value)


@pytest.mark.parametrize("name", sorted(GOLDEN.keys() - {"lz4", "zstd"}))
def test_version_1_is_written_as_it_ever_was(name: str) -> None:
    value, shape, tags, golden = GOLDEN[name]
    codec = Pipeline()
    sealed = codec.seal(sample(codec.encode(value, shape), tags), shape)
    assert sealed.hex() == "".join(golden.split())


@pytest.mark.parametrize(
    ("at", "fields", "value", "expected"),
    [
        (0, "2s", b"QD", "bad_magic"),
        (2, "B", 0, "bad_version"),
        (2, "B", 2, "bad_version"),
        (3, "B", 3, "bad_header"),  # no such compressor
        (3, "B", 0b11 << 3, "bad_header"),  # no such form
        (3, "B", 1 << 5, "sealed"),
        (3, "B", 1 << 6, "bad_header"),
        (3, "B", 1 << 7, "bad_header"),
        (4, "B", 1, "bad_header"),  # a key id, a salt, a nonce without a seal
        (8, "B", 1, "bad_header"),
        (35, "B", 1, "bad_header"),
        (36, ">d", float("nan"), "bad_header"),
        (44, ">d", float("nan"), "bad_header"),
        (52, ">d", float("nan"), "bad_header"),
        (60, ">d", float("nan"), "bad_header"),
        (68, "B", 2, "bad_header"),  # unknown marks
        (69, ">I", 0, "wrong_key"),
        (69, ">I", 20, "wrong_key"),
        (69, ">I", 23, "truncated"),
        (69, ">I", 0xFFFFFFFF, "truncated"),
        (73, ">H", 0, "wrong_key"),
        (73, ">H", 0xFFFF, "truncated"),
        (75, ">I", 0, "bad_header"),  # another raw length than that of the body
        (75, ">I", 0xFFFFFFFF, "bad_header"),
        (79, ">H", 0xFFFF, "bad_header"),  # a tag longer than all tags
        (79, ">H", 2, "bad_header"),  # a byte left behind it
        (97, "B", 0xFF, "bad_header"),  # a tag that is no UTF-8
        (100, "B", 0x43, "wrong_key"),
    ],
)
def test_a_whole_envelope_with_a_wrong_field_does_not_open(
    at: int, fields: str, value: float, expected: str
) -> None:
    assert reason(changed(at, fields, value)) == expected


@pytest.mark.parametrize(("count", "length"), [(1025, 1), (1, 16_385)])
def test_more_or_longer_tags_than_the_bounds_do_not_open(count: int, length: int) -> None:
    tags = (struct.pack(">HQQ", length, 1, 1) + b"t" * length) * count
    data = bytearray(envelope.pack(sample(BODY), BODY.data, Compressor.NONE))
    struct.pack_into(">I", data, 69, len(tags))
    data[79:79] = tags
    assert reason(checked(data)) == "bad_header"


def test_a_cut_says_so_where_it_can() -> None:
    whole = envelope.pack(sample(BODY), BODY.data, Compressor.NONE)
    assert {reason(whole[:end]) for end in range(95)} == {"truncated"}
    assert {reason(whole[:end]) for end in range(95, len(whole))} == {"bad_checksum"}
    assert reason(b"Qx") == reason(b"P") == "bad_magic"


def test_the_bound_on_what_it_adds_is_reached_and_not_passed() -> None:
    tags = (("t" * envelope.MAX_NAME, Stamp(1, 1)),) * envelope.MAX_TAGS
    largest = Record("k" * envelope.MAX_NAME, BODY, 0.0, 0.0, 0.0, 0.0, tags)
    packed = envelope.pack(largest, BODY.data, Compressor.NONE)
    assert len(packed) == envelope.MAX_OVERHEAD + len(BODY.data)


def test_infinite_lives_are_fine() -> None:
    forever = Record(KEY, BODY, 0.0, float("inf"), float("inf"))
    assert Pipeline().open(KEY, Pipeline().seal(forever), Shape()) == forever
