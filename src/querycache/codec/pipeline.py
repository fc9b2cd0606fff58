"""The codec: value <-> bytes in a fixed order: serialise, compress, put in an envelope; and back.

A seal stands between the last two: it takes the place of the envelope's checksum, encrypts what is
inside, and so sees bytes that are already compressed. Without one, what is sealed is unreadable;
and with one, what is not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Literal, Protocol

from querycache.codec import envelope, serialise
from querycache.codec.compress import compress, expand
from querycache.codec.envelope import Compressor
from querycache.errors import UnreadableError
from querycache.ports.codec import ANY, Body, Form, Record, Shape

_SCALARS: frozenset[type] = frozenset({type(None), bool, int, float, str, bytes})


class Seal(envelope.Sealing, Protocol):
    """Which entries are sealed, and with what."""

    def covers(self, key: str) -> bool:
        """Whether the entry `key` is sealed, so that nothing else is accepted under its name."""
        ...

    def prepare(
        self, keys: Sequence[str], stored: Sequence[bytes | None] | None
    ) -> Awaitable[None] | None:
        """As `Codec.prepare`."""
        ...


class Pipeline:
    """The `Codec` of querycache. Safe under threads.

    Args:
        compression: What new entries are compressed with; what is stored may be of any known kind.
        threshold: Bodies of more bytes than this are compressed, where it saves 10 % or more.
        max_bytes: A stored body that is larger, or says that it would unpack to more, is not
            opened, whatever its shape allows.
        seal: Seals what it covers.
    """

    def __init__(
        self,
        *,
        compression: Literal["lz4", "zstd", "none"] = "lz4",
        threshold: int = 1024,
        max_bytes: int = 64 * 1024 * 1024,
        seal: Seal | None = None,
    ) -> None:
        self._compressor = Compressor[compression.upper()]
        self._threshold = threshold
        self._max_bytes = max_bytes
        self._seal = seal

    def encode(self, value: object, shape: Shape = ANY) -> Body:
        """Raises `UnsupportedValueError` for what would not come back equal and of the same
        type.
        """
        return serialise.encode(value, shape)

    def share(self, value: object, body: Body) -> object:
        """What many readers may hold of a shareable body: what any reader of L2 would get, so an
        array is a read-only one over the body's own bytes.
        """
        if body.form is Form.STRUCT or type(value) in _SCALARS:
            return value
        return serialise.decode(body, ANY)

    def decode(self, body: Body, shape: Shape = ANY) -> object:
        """Raises `UnreadableError("bad_body")`."""
        return serialise.decode(body, shape)

    def prepare(
        self, keys: Sequence[str], stored: Sequence[bytes | None] | None = None
    ) -> Awaitable[None] | None:
        """See the port."""
        return None if self._seal is None else self._seal.prepare(keys, stored)

    def seal(self, record: Record, shape: Shape = ANY) -> bytes:
        """The envelope of a record. Raises `UnsupportedValueError` where its key or its tags are
        past what the layout holds, `TierError` where what to seal it with is not known.
        """
        body, seal = record.body, self._seal_of(record.key)
        if shape.compress and body.form is not Form.VECTOR and len(body.data) > self._threshold:
            packed = compress(body.data, self._compressor)
            if packed is not None:
                return envelope.pack(record, packed, self._compressor, seal)
        return envelope.pack(record, body.data, Compressor.NONE, seal)

    def _seal_of(self, key: str) -> Seal | None:
        seal = self._seal
        return seal if seal is not None and seal.covers(key) else None

    def open(self, key: str, data: bytes, shape: Shape = ANY) -> Record:
        """What was sealed for `key`. Judges no time: the reader has the clock.

        Raises:
            UnreadableError: And nothing else; any reason of its set but "expired".
        """
        limit = min(shape.max_bytes, self._max_bytes)
        if len(data) > limit + envelope.MAX_OVERHEAD:
            raise UnreadableError("too_big")
        content = envelope.unpack(key, data, self._seal_of(key))
        if content.form is not shape.form:
            raise UnreadableError("bad_header")
        if content.raw_length > limit:
            raise UnreadableError("too_big")
        raw = content.stored
        if content.compressor:
            raw = expand(raw, content.compressor, content.raw_length)
        shareable = content.shareable
        if shape.form is Form.STRUCT:
            shareable = serialise.is_immutable(shape.type)
        return Record(
            key,
            Body(raw, content.form, shareable),
            content.born,
            content.fresh_until,
            content.expires_at,
            content.load_s,
            content.tags,
        )
