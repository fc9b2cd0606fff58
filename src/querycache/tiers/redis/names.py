"""The names that the Redis tier uses on a server, and the slots of a cluster that they lie in.

Entries keep the names they have. All else is under `{prefix}:meta:` and is no entry. What belongs
to an entry lies in the entry's own slot, by a hash tag that stands for that slot, so that one
script may touch both. The same names are used on a single server.
"""

from __future__ import annotations

from binascii import crc_hqx
from functools import cache
from typing import Final

from querycache.keys import decode, encode

SLOTS: Final = 16_384

POSTS: Final = 64
"""Processes that can tell of themselves at a time."""

_TAG_SIZE: Final = 4
_CODING: Final = "surrogateescape"


def slot_of(name: bytes) -> int:
    """The slot of a cluster that a name lies in: by what stands between the first `{` and the next
    `}`, if anything does, else by the whole name.
    """
    start = name.find(b"{") + 1
    if start:
        end = name.find(b"}", start)
        if end > start:
            name = name[start:end]
    return crc_hqx(name, 0) % SLOTS


def to_wire(name: str) -> bytes:
    """A name as the server knows it. Raises `UnicodeEncodeError` for what is no text."""
    return name.encode("utf-8", _CODING)


def from_wire(name: bytes) -> str:
    """What `to_wire` was given."""
    return name.decode("utf-8", _CODING)


def _hash_tags() -> list[bytes]:
    """Four letters for each slot, that hash to it.

    CRC16 is linear: flipping one bit of a word of a given length flips the same bits of its
    checksum, whatever the other bits are. So each free bit of the word doubles the slots reached.
    """
    first = int.from_bytes(b"@" * _TAG_SIZE)
    at = slot_of(first.to_bytes(_TAG_SIZE))
    words = {at: first}
    free = [bit for bit in range(8 * _TAG_SIZE) if not bit & 4]  # "@" to "O"
    while len(words) < SLOTS:
        flip = 1 << free.pop()
        flipped = at ^ slot_of((first ^ flip).to_bytes(_TAG_SIZE))
        if at ^ flipped not in words:
            words.update([(slot ^ flipped, word ^ flip) for slot, word in words.items()])
    return [words[slot].to_bytes(_TAG_SIZE) for slot in range(SLOTS)]


HASH_TAGS: Final = _hash_tags()
"""For each slot a hash tag that lies in it."""


class Names:
    """The names under one prefix.

    Attributes:
        meta: What the names of all that is no entry begin with.
        counters: What the names of tags' counters begin with.
        shadows: What shadow names begin with.
        sequence: Numbers the messages of `channel`.
        channel: Where changes are published, for those that can't track.
    """

    def __init__(self, prefix: str) -> None:
        """`prefix` holds no braces."""
        self.meta = f"{prefix}:meta:".encode()
        self.counters = self.meta + b"tag:"
        self.shadows = self.meta + b"told:"
        self.sequence = self.meta + b"seq"
        self.channel = self.meta + b"told"
        self.version = cache(self._version)
        self._leases = self.meta + b"lease:"
        self._source_at = len(self.shadows) + _TAG_SIZE + 3

    def counter(self, tag: str) -> bytes:
        """The counter of a tag."""
        return self.counters + encode(tag).encode()

    def tag_of(self, counter: bytes) -> str:
        """The tag that a counter is of; of one that is none of ours, some text."""
        text = from_wire(counter[len(self.counters) :])
        try:
            return decode(text)
        except UnicodeDecodeError:
            return text

    def lease(self, key: str) -> bytes:
        """Who may load an entry."""
        return self._leases + to_wire(key)

    def secret(self, name: str) -> bytes:
        """What all must agree on."""
        return b"%bsecret:%b" % (self.meta, to_wire(name))

    def shadow(self, slot: int, source: bytes, name: bytes) -> bytes:
        """What is touched when `source` has changed an entry, for those that track. `slot` is the
        entry's.
        """
        return b"%b{%b}:%b:%b" % (self.shadows, HASH_TAGS[slot], source, name)

    def unshadow(self, shadow: bytes, source_size: int) -> tuple[bytes, bytes]:
        """The source and the entry's name that a shadow name was made of."""
        end = self._source_at + source_size
        return shadow[self._source_at : end], shadow[end + 1 :]

    def posts(self) -> tuple[bytes, ...]:
        """Where processes tell of themselves: all in one slot, so that one request reads all."""
        return tuple(b"%bprocess:{all}:%02d" % (self.meta, place) for place in range(POSTS))

    def probe(self, source: bytes) -> bytes:
        """What a process touches to see how long it takes to hear of it."""
        return b"%blag:%b" % (self.meta, source)

    def _version(self, slot: int) -> bytes:
        """What moves with every told change in a slot."""
        return b"%bver:{%b}" % (self.meta, HASH_TAGS[slot])


def pattern_of(prefix: bytes) -> bytes:
    """A glob pattern for the names that begin with `prefix`."""
    return b"".join(b"\\" + one if one in _GLOB else one for one in _letters(prefix)) + b"*"


def _letters(text: bytes) -> list[bytes]:
    return [text[at : at + 1] for at in range(len(text))]


_GLOB: Final = frozenset((b"*", b"?", b"[", b"]", b"\\", b"^"))
