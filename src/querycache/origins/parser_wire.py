"""What the parser and its process say to each other over their pipes.

A frame is its length (4 bytes, big-endian) and a msgpack body.
"""

from __future__ import annotations

import struct

import msgspec

from querycache.origins.chunking import Cut

LENGTH = struct.Struct(">I")


class Request(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A file to cut."""

    language: str
    data: bytes


class Reply(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Its cuts."""

    had_errors: bool
    cuts: list[Cut]


def frame(body: bytes) -> bytes:
    return LENGTH.pack(len(body)) + body
