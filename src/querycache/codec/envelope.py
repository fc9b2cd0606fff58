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

A seal encrypts `inner` and authenticates `clear` and the full key, which names kind and project:
an entry that was moved, or cut, or whose header was touched, does not open. Key id, salt and nonce
are the seal's own. Without one those three are zero, `inner` is plain and the tag is XXH3-128 of
all that stands before it: proof against accidents, not against an attacker. Which of the two is
accepted is the reader's configuration, never the stored bytes.
"""

from __future__ import annotations

import math
from enum import IntEnum
from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple, Protocol, TypeAlias

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
_BEGIN: Final = MAGIC + bytes([VERSION])
_USUAL = 512  # bytes of tags
_SHAREABLE = 1
_FLAGS = {form << 3 | compressor: (form, compressor) for form in Form for compressor in Compressor}
_INNER_AT = _CLEAR.size
_NAMES_AT = _INNER_AT + _INNER.size
_SMALLEST = _NAMES_AT + _CHECKSUM
_SEALED = 1 << 5
_KEY_ID = slice(4, 8)
_SALT = slice(8, 24)
_NONCE = slice(24, 36)
MAX_OVERHEAD = _SMALLEST + MAX_NAME + MAX_TAGS * (_TAG.size + MAX_NAME)
"""The most bytes that an envelope adds to its body."""

Tags: TypeAlias = tuple[tuple[str, Stamp], ...]


class Head(NamedTuple):
    """What a seal says of itself in clear."""

    key_id: bytes
    salt: bytes
    nonce: bytes


class Encryptor(Protocol):
    """Encrypts once: `aad` is authenticated, what comes back ends in a tag of 16 bytes."""

    def __call__(self, plain: bytes, aad: bytes, /) -> bytes: ...


class Sealing(Protocol):
    """The seal of a codec, as the layout needs it. Pure in effect."""

    def begin(self, key: str) -> tuple[Head, Encryptor]:
        """What to seal the entry `key` with, this once. Raises `TierError` where that is not
        known.
        """
        ...

    def end(self, key: str, head: Head, sealed: bytes, aad: bytes) -> bytes:
        """What was encrypted. Raises `UnreadableError`: unknown_key, bad_seal."""
        ...


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


def pack(
    record: Record, stored: bytes, compressor: Compressor, seal: Sealing | None = None
) -> bytes:
    """The envelope of a record whose body was packed to `stored`.

    Raises:
        UnsupportedValueError: The key, the tags or a number is past what the layout holds.
        TierError: From the seal.
    """
    body = record.body
    key = _name(record.key)
    if len(record.tags) > MAX_TAGS:
        raise UnsupportedValueError(f"an entry can't depend on more than {MAX_TAGS} tags")
    tags = b"".join([_tag(name, stamp) for name, stamp in record.tags])
    if len(body.data) >= 1 << 32:
        raise UnsupportedValueError("a body can't be 4 GiB or larger")
    numbers = _INNER.pack(
        record.born,
        record.fresh_until,
        record.load_s,
        _SHAREABLE if body.shareable else 0,
        len(tags),
        len(key),
        len(body.data),
    )
    flags = body.form << 3 | compressor
    if seal is None:
        clear = _CLEAR.pack(MAGIC, VERSION, flags, _UNSEALED, record.expires_at)
        data = b"".join((clear, numbers, tags, key, stored))
        return data + xxh3_128_digest(data)
    head, encrypt = seal.begin(record.key)
    clear = _CLEAR.pack(MAGIC, VERSION, flags | _SEALED, b"".join(head), record.expires_at)
    return clear + encrypt(b"".join((numbers, tags, key, stored)), clear + key)


def unpack(key: str, data: bytes, seal: Sealing | None = None) -> Content:
    """What an envelope that was made for `key` holds.

    Raises:
        UnreadableError: bad_magic, bad_version, bad_header, truncated, wrong_key; without a seal
            bad_checksum, sealed; with one unsealed, unknown_key, bad_seal.
    """
    form, compressor, expires_at = _read_clear(data, is_sealed=seal is not None)
    coded = key.encode("utf-8", "surrogatepass")
    if seal is None:
        start, end = _INNER_AT, len(data) - _CHECKSUM
        if xxh3_128_digest(memoryview(data)[:end]) != data[end:]:
            raise UnreadableError("bad_checksum")
    else:
        head = Head(data[_KEY_ID], data[_SALT], data[_NONCE])
        data = seal.end(key, head, data[_INNER_AT:], data[:_INNER_AT] + coded)
        start, end = 0, len(data)
    born, fresh_until, load_s, marks, tags_length, key_length, raw_length = _INNER.unpack_from(
        data, start
    )
    if marks > _SHAREABLE or math.isnan(expires_at + born + fresh_until + load_s):
        raise UnreadableError("bad_header")
    names_at = start + _INNER.size
    key_at = names_at + tags_length
    body_at = key_at + key_length
    if body_at > end:
        raise UnreadableError("truncated")
    if data[key_at:body_at] != coded:
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
        _tags(data[names_at:key_at]) if tags_length else (),
        raw_length,
        stored,
    )


def head_of(data: bytes) -> Head | None:
    """What stands in clear of the seal of an envelope; None where it has none, or is none."""
    if len(data) < _SMALLEST or data[:3] != _BEGIN or not data[3] & _SEALED:
        return None
    return Head(data[_KEY_ID], data[_SALT], data[_NONCE])


def _read_clear(data: bytes, *, is_sealed: bool) -> tuple[Form, Compressor, float]:
    """Judges what stands in clear."""
    if data[:2] != MAGIC:
        raise UnreadableError("truncated" if MAGIC.startswith(data) else "bad_magic")
    if len(data) < _SMALLEST:
        raise UnreadableError("truncated")
    _, version, flags, seal, expires_at = _CLEAR.unpack_from(data)
    if version != VERSION:
        raise UnreadableError("bad_version")
    known = _FLAGS.get(flags & ~_SEALED)
    if known is None or not (flags & _SEALED or seal == _UNSEALED):
        raise UnreadableError("bad_header")
    if is_sealed is not bool(flags & _SEALED):
        raise UnreadableError("unsealed" if is_sealed else "sealed")
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
