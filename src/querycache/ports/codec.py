"""The codec: value <-> bytes, in a fixed order: serialise, compress, seal, and back."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from enum import IntEnum
from typing import Protocol

import msgspec

from querycache.values import Stamp


class Form(IntEnum):
    """How a body is serialised. Written in the envelope; which forms a reader accepts is the
    reader's declaration.
    """

    MSGPACK = 0  # any value, exact types
    STRUCT = 1  # one msgspec Struct type that the reader names
    VECTOR = 2  # one ndarray: small header and raw numbers


class Shape(msgspec.Struct, frozen=True):
    """What a kind's values are.

    Attributes:
        form: How they are serialised.
        type: For STRUCT, the (frozen, gc=False) Struct type; for MSGPACK None: any supported
            value.
        half: For VECTOR, store float16 (error stated in codec.serialise).
        compress: Whether to compress bodies above the threshold; vectors never are.
        max_bytes: The largest serialised body that is stored at all.
    """

    form: Form = Form.MSGPACK
    type: object = None
    half: bool = False
    compress: bool = True
    max_bytes: int = 16 * 1024 * 1024


ANY = Shape()


class Body(msgspec.Struct, frozen=True, gc=False):
    """A serialised value. `shareable`: the value itself can be handed to many readers, since none
    can change it.
    """

    data: bytes
    form: Form
    shareable: bool


class Record(msgspec.Struct, frozen=True, gc=False):
    """An entry on its way to or from L2. Times in wall seconds.

    `born` is the start of the load that made it; `tags` are the counters it depends on as they
    stood then.
    """

    key: str
    body: Body
    born: float
    fresh_until: float
    expires_at: float
    load_s: float = 0.0
    tags: tuple[tuple[str, Stamp], ...] = ()


class Codec(Protocol):
    """What goes in comes out equal and of the same type. Pure in effect, but for `prepare`: what a
    codec seals with may lie in L2.

    `decode` gives a fresh object for each call, or one that nobody can change (read-only arrays,
    frozen structs).
    """

    def encode(self, value: object, shape: Shape = ANY) -> Body:
        """Raises `UnsupportedValueError` for a type it can't give back the same."""
        ...

    def share(self, value: object, body: Body) -> object:
        """For a shareable body: the object that many readers may hold. Whoever passed `value` in
        can't reach it (an array is copied and made read-only).
        """
        ...

    def decode(self, body: Body, shape: Shape = ANY) -> object:
        """Raises `UnreadableError("bad_body")`."""
        ...

    def prepare(
        self, keys: Sequence[str], stored: Sequence[bytes | None] | None = None
    ) -> Awaitable[None] | None:
        """What must be awaited before entries of these names are sealed, or (with what is `stored`
        under them) opened; None where nothing must. Awaiting raises `TierError`.
        """
        ...

    def seal(self, record: Record, shape: Shape = ANY) -> bytes:
        """The envelope: what L2 sees. Raises `TierError` where L2 did not say what to seal with:
        then nothing must reach it.
        """
        ...

    def open(self, key: str, data: bytes, shape: Shape = ANY) -> Record:
        """Opens an envelope and checks that it was sealed for `key`. Raises `UnreadableError`, and
        nothing else.
        """
        ...
