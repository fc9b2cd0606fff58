"""The layout of a backup file, format version 1.

    head     magic "QCBACKUP" (8), version (2)
    block    kind (1: "H" about, "E" entries, "X" end), packing (1: 0 none, 1 Zstandard), raw
             length (4), packed length (4), XXH3-128 of all that and of the packed bytes (16); the
             packed bytes: MessagePack

One "H", any number of "E", one "X", and nothing after it. "X" holds how many blocks, entries and
bytes there are, which places of which blocks were left out again, and BLAKE2b-256 of all bytes
before it. Integers are unsigned and big-endian.

Both checksums prove that the file is what was written, not who wrote it: an entry is as
trustworthy as its seal. Nothing in a file is a path. Lengths are judged before memory is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Final, NamedTuple, TypeVar

import msgspec
from xxhash import xxh3_128_digest

from querycache.codec.compress import compress, expand
from querycache.codec.envelope import Compressor
from querycache.errors import BackupError, UnreadableError
from querycache.ports.backup import About, Contents, Saved

T = TypeVar("T")

MAGIC: Final = b"QCBACKUP"
VERSION: Final = 1
MAX_BLOCK: Final = 96 * 1024 * 1024
"""Bytes of a block: more than the largest entry that a codec opens."""

MAX_ROWS: Final = 65_536
"""Entries of a block."""

_HEAD: Final = Struct(">8sH")
_BLOCK: Final = Struct(">cBII")
_SUM: Final = 16
HEAD_SIZE: Final = _HEAD.size
BLOCK_SIZE: Final = _BLOCK.size + _SUM

ABOUT, ENTRIES, END = b"H", b"E", b"X"


class End(msgspec.Struct, frozen=True):
    """The last block. `dropped`: for a block by its number, a bit for each place, lowest first;
    all else is about what is left: `weight` in bytes of envelopes.
    """

    blocks: int
    entries: int
    weight: int
    contents: Contents
    dropped: Mapping[int, bytes]
    digest: bytes


class Framed(NamedTuple):
    """What stands before a block's bytes."""

    kind: bytes
    packing: int
    raw_length: int
    length: int
    checksum: bytes


def head() -> bytes:
    """How a file begins."""
    return _HEAD.pack(MAGIC, VERSION)


def read_head(data: bytes) -> None:
    """Judges how a file begins. Raises `BackupError`."""
    if len(data) < HEAD_SIZE or not data.startswith(MAGIC):
        raise BackupError("it is no backup of querycache")
    version = _HEAD.unpack(data)[1]
    if version != VERSION:
        raise BackupError(
            f"it is a backup of format {version}, and this version reads format {VERSION}",
            remedy="restore it with the version of querycache that made it, or a later one",
        )


def frame(kind: bytes, content: object) -> bytes:
    """A block as it is written."""
    raw = _encode(content)
    if len(raw) > MAX_BLOCK:
        raise BackupError(f"{len(raw)} bytes are too many for a block of a backup")
    packed = compress(raw, Compressor.ZSTD)
    packing = Compressor.NONE if packed is None else Compressor.ZSTD
    data = raw if packed is None else packed
    before = _BLOCK.pack(kind, packing, len(raw), len(data))
    return b"".join((before, xxh3_128_digest(before + data), data))


def read_frame(data: bytes) -> Framed:
    """What stands before a block's bytes, its lengths judged. Raises `BackupError`."""
    if len(data) != BLOCK_SIZE:
        raise BackupError("it is cut short")
    kind, packing, raw_length, length = _BLOCK.unpack_from(data)
    if (
        kind not in {ABOUT, ENTRIES, END}
        or packing not in {Compressor.NONE, Compressor.ZSTD}
        or max(raw_length, length) > MAX_BLOCK
    ):
        raise BackupError("a block of it is damaged")
    return Framed(kind, packing, raw_length, length, data[_BLOCK.size :])


def unframe(framed: Framed, data: bytes) -> bytes:
    """A block's content, still MessagePack. Raises `BackupError`."""
    if len(data) != framed.length:
        raise BackupError("it is cut short")
    before = _BLOCK.pack(*framed[:4])
    if xxh3_128_digest(before + data) != framed.checksum:
        raise BackupError("a block of it is damaged: its checksum differs")
    try:
        return expand(data, Compressor(framed.packing), framed.raw_length)
    except UnreadableError as error:
        raise BackupError("a block of it does not unpack") from error


def read_about(raw: bytes) -> About:
    """The first block. Raises `BackupError`."""
    return _decoded(_about, raw)


def read_rows(raw: bytes) -> list[Saved]:
    """A block of entries. Raises `BackupError`."""
    rows = _decoded(_rows, raw)
    if len(rows) > MAX_ROWS:
        raise BackupError("a block of it holds too many entries")
    return rows


def read_end(raw: bytes) -> End:
    """The last block. Raises `BackupError`."""
    return _decoded(_end, raw)


def bits(places: Sequence[int], count: int) -> bytes:
    """A bit for each of `count` places, set for these."""
    made = bytearray((count + 7) // 8)
    for place in places:
        made[place >> 3] |= 1 << (place & 7)
    return bytes(made)


def count(dropped: bytes, size: int) -> int:
    """How many of the first `size` bits are set."""
    return (int.from_bytes(dropped, "little") & ((1 << size) - 1)).bit_count()


def without(rows: Sequence[Saved], dropped: bytes) -> list[Saved]:
    """The rows whose bit is not set."""
    size = len(dropped)
    return [
        row
        for place, row in enumerate(rows)
        if place >> 3 >= size or not dropped[place >> 3] >> (place & 7) & 1
    ]


_encode = msgspec.msgpack.Encoder().encode
_about = msgspec.msgpack.Decoder(About)
_rows = msgspec.msgpack.Decoder(list[Saved])
_end = msgspec.msgpack.Decoder(End)


def _decoded(decoder: msgspec.msgpack.Decoder[T], raw: bytes) -> T:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BackupError(f"a block of it holds what no backup holds: {error}") from error
