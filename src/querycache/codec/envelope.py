"""The envelope: the one layout of what L2 holds, format version 1.

    clear    magic "QC", version (1), flags (1), key id (4), writer salt (16), nonce (12),
             hard expiry (8: wall seconds, float64)
    inner    birth, fresh until, load seconds (3 x 8: float64), marks (1), bytes of all tags (4),
             length of the key (2), raw length of the body (4);
             for each tag: length of the name (2), epoch (8), number (8), name;
             the full key; the body as it is stored
    tag      16 bytes

Integers are unsigned and big-endian; names and the key are UTF-8, lone surrogates passed. Flags:
bits 0-2 the compressor, bits 3-4 the form, bit 5 "sealed", the others 0. Marks: bit 0 "the value
is shareable", the others 0.

A seal authenticates `clear` and encrypts `inner`; key id, salt and nonce are its own. Without one
those three are zero, `inner` is plain and the tag is XXH3-128 of all that stands before it: proof
against accidents, not against an attacker. What is sealed is unreadable to a reader without a
seal, and which of the two is accepted is the reader's configuration, never the stored bytes.
"""

from __future__ import annotations

import math
from enum import IntEnum
from functools import lru_cache
from struct import Struct
from typing import TypeAlias

import msgspec
from xxhash import xxh3_128_digest

from querycache.errors import UnreadableError, UnsupportedValueError
from querycache.ports.codec import Form, Record
from querycache.values import Stamp


class Compressor(IntEnum):
    """How a body is packed."""

    NONE = 0
    ZSTD = 1
    LZ4 = 2


MAGIC = b"QC"
VERSION = 1
MAX_TAGS = 1024
MAX_NAME = 16 * 1024
"""Bytes of a key, or of a tag's name."""

_CLEAR = Struct(">2sBB32sd")
_INNER = Struct(">dddBIHI")
_TAG = Struct(">HQQ")
_CHECKSUM = 16
_UNSEALED = bytes(32)
_USUAL = 512  # bytes of tags
_SHAREABLE = 1
_FLAGS = {form << 3 | compressor: (form, compressor) for form in Form for compressor in Compressor}
_INNER_AT = _CLEAR.size
_NAMES_AT = _INNER_AT + _INNER.size
_SMALLEST = _NAMES_AT + _CHECKSUM
MAX_OVERHEAD = _SMALLEST + MAX_NAME + MAX_TAGS * (_TAG.size + MAX_NAME)
"""The most bytes that an envelope adds to its body."""

Tags: TypeAlias = tuple[tuple[str, Stamp], ...]


class Content(msgspec.Struct, frozen=True, gc=False):
    """What an envelope holds. `stored` is the body as it was packed; times in wall seconds."""

    form: Form
    compressor: Compressor
    shareable: bool
    expires_at: float
    born: float
    fresh_until: float
    load_s: float
    tags: Tags
    raw_length: int
    stored: bytes


def pack(record: Record, stored: bytes, compressor: Compressor) -> bytes:
    """The envelope of a record whose body was packed to `stored`.

    Raises:
        UnsupportedValueError: The key, the tags or a number is past what the layout holds.
    """
    body = record.body
    key = _name(record.key)
    if len(record.tags) > MAX_TAGS:
        raise UnsupportedValueError(f"an entry can't depend on more than {MAX_TAGS} tags")
    tags = b"".join([_tag(name, stamp) for name, stamp in record.tags])
    if len(body.data) >= 1 << 32:
        raise UnsupportedValueError("a body can't be 4 GiB or larger")
    data = b"".join(
        (
            _CLEAR.pack(MAGIC, VERSION, body.form << 3 | compressor, _UNSEALED, record.expires_at),
            _INNER.pack(
                record.born,
                record.fresh_until,
                record.load_s,
                _SHAREABLE if body.shareable else 0,
                len(tags),
                len(key),
                len(body.data),
            ),
            tags,
            key,
            stored,
        )
    )
    return data + xxh3_128_digest(data)


def unpack(key: str, data: bytes) -> Content:
    """What an envelope sealed for `key` holds.

    Raises:
        UnreadableError: bad_magic, bad_version, bad_header, truncated, bad_checksum, wrong_key.
    """
    form, compressor, expires_at = _read_clear(data)
    end = len(data) - _CHECKSUM
    if xxh3_128_digest(memoryview(data)[:end]) != data[end:]:
        raise UnreadableError("bad_checksum")
    born, fresh_until, load_s, marks, tags_length, key_length, raw_length = _INNER.unpack_from(
        data, _INNER_AT
    )
    if marks > _SHAREABLE or math.isnan(expires_at + born + fresh_until + load_s):
        raise UnreadableError("bad_header")
    key_at = _NAMES_AT + tags_length
    body_at = key_at + key_length
    if body_at > end:
        raise UnreadableError("truncated")
    if data[key_at:body_at] != key.encode("utf-8", "surrogatepass"):
        raise UnreadableError("wrong_key")
    stored = data[body_at:end]
    if not compressor and raw_length != len(stored):
        raise UnreadableError("bad_header")
    return Content(
        form,
        compressor,
        marks == _SHAREABLE,
        expires_at,
        born,
        fresh_until,
        load_s,
        _tags(data[_NAMES_AT:key_at]) if tags_length else (),
        raw_length,
        stored,
    )


def _read_clear(data: bytes) -> tuple[Form, Compressor, float]:
    """Judges what stands in clear."""
    if data[:2] != MAGIC:
        raise UnreadableError("truncated" if MAGIC.startswith(data) else "bad_magic")
    if len(data) < _SMALLEST:
        raise UnreadableError("truncated")
    _, version, flags, seal, expires_at = _CLEAR.unpack_from(data)
    if version != VERSION:
        raise UnreadableError("bad_version")
    known = _FLAGS.get(flags)
    if known is None or seal != _UNSEALED:
        raise UnreadableError("bad_header")
    return *known, expires_at


def _tags(section: bytes) -> Tags:
    return _usual_tags(section) if len(section) <= _USUAL else _read_tags(section)


def _read_tags(section: bytes) -> Tags:
    tags: list[tuple[str, Stamp]] = []
    at = 0
    while at < len(section):
        name_at = at + _TAG.size
        if name_at > len(section) or len(tags) == MAX_TAGS:
            raise UnreadableError("bad_header")
        length, epoch, number = _TAG.unpack_from(section, at)
        at = name_at + length
        if at > len(section) or length > MAX_NAME:
            raise UnreadableError("bad_header")
        try:
            name = section[name_at:at].decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise UnreadableError("bad_header") from None
        tags.append((name, Stamp(epoch, number)))
    return tuple(tags)


_usual_tags = lru_cache(256)(_read_tags)  # most entries of a kind depend on the same few counters


def _tag(name: str, stamp: Stamp) -> bytes:
    coded = _name(name)
    if not (0 <= stamp.epoch < 1 << 64 and 0 <= stamp.number < 1 << 64):
        raise UnsupportedValueError("a stamp's numbers are unsigned and of 64 bits")
    return _TAG.pack(len(coded), stamp.epoch, stamp.number) + coded


def _name(text: str) -> bytes:
    coded = text.encode("utf-8", "surrogatepass")
    if len(coded) > MAX_NAME:
        raise UnsupportedValueError(f"a key or tag can't be longer than {MAX_NAME} bytes")
    return coded
