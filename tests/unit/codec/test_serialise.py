"""Forms: which declared types nobody can change, and bodies that don't decode."""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest
from tests.behaviour.codec_suite import PATHS, VECTOR, Basket, Path

from querycache.codec import serialise
from querycache.errors import UnreadableError
from querycache.ports.codec import ANY, Body, Form, Shape
from querycache.ports.origins import Hit


class Leaf(msgspec.Struct, frozen=True, gc=False):
    name: str
    size: int | None
    mode: Literal["a", "b"]
    parts: tuple[tuple[int, str], ...] = ()
    seen: frozenset[bytes] = frozenset()
    next: Leaf | None = None


class Tracked(msgspec.Struct, frozen=True):
    name: str


class HoldsList(msgspec.Struct, frozen=True, gc=False):
    names: list[str]


class HoldsAnything(msgspec.Struct, frozen=True, gc=False):
    thing: object


class HoldsMutable(msgspec.Struct, frozen=True, gc=False):
    leaf: Leaf
    basket: tuple[Basket, ...]


class Picky(msgspec.Struct, frozen=True, gc=False):
    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise RuntimeError("picky")


@pytest.mark.parametrize("kind", [Hit, Path, Leaf])
def test_frozen_all_the_way_down_is_immutable(kind: type[msgspec.Struct]) -> None:
    assert serialise.is_immutable(kind)


@pytest.mark.parametrize("kind", [Basket, Tracked, HoldsList, HoldsAnything, HoldsMutable])
def test_anything_else_is_not(kind: type[msgspec.Struct]) -> None:
    assert not serialise.is_immutable(kind)


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        (b"", ANY),
        (b"\xc1", ANY),
        (b"", PATHS),
        (b"\x80", PATHS),
        (b"\x01", PATHS),
        (b"\x81\xa6points\x01", PATHS),
        (b"\x91" * 100_000, PATHS),
        (b"\x81\xa6number\xff", Shape(form=Form.STRUCT, type=Picky)),
        (b"\x80", Shape(form=Form.STRUCT)),
        (b"", VECTOR),
        (b"\xff" * 64, VECTOR),
    ],
)
def test_a_body_that_does_not_decode_is_unreadable(data: bytes, shape: Shape) -> None:
    with pytest.raises(UnreadableError, match="bad_body"):
        serialise.decode(Body(data, shape.form, shareable=True), shape)
