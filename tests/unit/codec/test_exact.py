"""Exact values: the format of each extension, Structs by name, and hostile bodies."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
from tests.behaviour.codec_suite import Point
from tests.behaviour.codec_suite import exact as exactly

from querycache.codec import exact, serialise
from querycache.errors import UnreadableError, UnsupportedValueError
from querycache.ports.codec import ANY, Body, Form

GOLDEN = """
9c
c70901000000000000000001
c70302eda080
d5039101
d5049101
d5059101
d7069291d50391019102
c7060793cd07e8021d
c70f0899cd07e8021d010203040093000000
c7190899cd07e8021d0000000001ad4575726f70652f4265726c696e
d60993010203
c7240a 42 02 000000000000 0100000000000000 0200000000000000 0000000000000000 00010002
c7380b93d92a
74657374732e6265686176696f75722e636f6465635f73756974653a506f696e7428782c6c6162656c29
cb3ff8000000000000a170
"""
LIMIT = 1_000_000


NO_KEY: dict[str, int] = {}


def ext(code: int, value: object) -> bytes:
    payload = value if isinstance(value, bytes) else msgspec.msgpack.encode(value)
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(code, payload))


def test_each_extension_is_written_as_it_ever_was() -> None:
    value = [
        2**64,
        "\ud800",
        (1,),
        {1},
        frozenset({1}),
        {(1,): 2},
        date(2024, 2, 29),
        datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=UTC),
        datetime(2024, 2, 29, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
        timedelta(1, 2, 3),
        np.array([[1, 2]], ">i2"),
        Point(1.5, "p"),
    ]
    golden = "".join(GOLDEN.split())
    assert exact.dumps(value, LIMIT)[0].hex() == golden
    assert exactly(exact.loads(bytes.fromhex(golden))) == exactly(value)


def test_what_msgpack_says_itself_is_written_as_plain_msgpack() -> None:
    value: dict[object, object] = {"a": [1, 2.5, None, True, b"x"], 7: {"deep": [[0]]}}
    assert exact.dumps(value, LIMIT) == (msgspec.msgpack.encode(value), False)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01\x02",
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff\x01",
        b"\xc9\xff\xff\xff\xff\x03",
        b"\x91" * 100_000,
        b"\x81\xa1a" * 100_000,
        ext(0, 1),
        ext(12, 1),
        ext(127, b""),
        ext(2, b"\xff"),
        ext(3, 1),
        ext(3, {}),
        ext(4, [[1], NO_KEY]),
        ext(5, [NO_KEY]),
        ext(6, []),
        ext(6, [[1], []]),
        ext(6, [[NO_KEY], [1]]),
        ext(6, {1: 2}),
        ext(7, [2024, 13, 1]),
        ext(7, ["2024", 1, 1]),
        ext(8, []),
        ext(8, [2024, 1, 1, 0, 0, 0, 0, 2, None]),
        ext(8, [2024, 1, 1, 0, 0, 0, 0, 0, "../../etc/passwd"]),
        ext(8, [2024, 1, 1, 0, 0, 0, 0, 0, "/etc/passwd"]),
        ext(8, [2024, 1, 1, 0, 0, 0, 0, 0, "Europe"]),
        ext(8, [2024, 1, 1, 0, 0, 0, 0, 0, "No/Where"]),
        ext(8, [2024, 1, 1, 0, 0, 0, 0, 0, [1, 0, 0]]),
        ext(8, [2024, 1, 1, 0, 0, 0, 0, 0, 5]),
        ext(9, [2**62, 0, 0]),
        ext(10, b"\xff" * 40),
        ext(11, []),
        ext(11, [1]),
        ext(11, [["x"]]),
        ext(11, ["os:system(command)", "id"]),
        ext(11, ["tests.behaviour.codec_suite:Point", 1.0, ""]),
        ext(11, ["tests.behaviour.codec_suite:Point(x)", 1.0]),
        ext(11, ["tests.behaviour.codec_suite:Point(x,label)", 1.0]),
        ext(11, ["tests.behaviour.codec_suite:Point(x,label)", 1.0, "", 2]),
        ext(11, ["builtins:dict()"]),
    ],
)
def test_nonsense_raises_and_nothing_worse(data: bytes) -> None:
    with pytest.raises(UnreadableError, match="bad_body"):
        serialise.decode(Body(data, Form.MSGPACK, shareable=False), ANY)


def test_extensions_nested_without_end_raise() -> None:
    data = b"\x01"
    for _ in range(5000):
        data = ext(3, b"\x91" + data)
    with pytest.raises(RecursionError):
        exact.loads(data)


def test_a_struct_of_a_module_that_is_not_loaded_is_not_imported() -> None:
    module = "wsgiref.validate"
    assert module not in sys.modules
    with pytest.raises(LookupError):
        exact.loads(ext(11, [f"{module}:Thing(a)", 1]))
    assert module not in sys.modules


def make(name: str, *fields: str) -> type[msgspec.Struct]:
    return msgspec.defstruct(name, list(fields), module="made.up", frozen=True, gc=False)


def test_a_struct_that_lost_or_gained_a_field_is_unknown() -> None:
    old = make("Changed", "a", "b")
    data, _ = exact.dumps(old(1, 2), LIMIT)
    assert exact.loads(data) == old(1, 2)
    for fields in (("a",), ("a", "b", "c"), ("b", "a")):
        make("Changed", *fields)
    assert type(exact.loads(data)) is old
    with pytest.raises(LookupError):
        exact.loads(data.replace(b"(a,b)", b"(a,z)"))


def test_of_two_classes_with_one_name_the_newer_is_meant() -> None:
    older = make("Twin", "a")
    data, _ = exact.dumps(older(1), LIMIT)
    newer = make("Twin", "a")
    assert exact.dumps(newer(1), LIMIT)[0] == data
    assert type(exact.loads(data)) is newer
    with pytest.raises(UnsupportedValueError, match="newer class"):
        exact.dumps(older(1), LIMIT)
