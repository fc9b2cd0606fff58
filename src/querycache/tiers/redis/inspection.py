"""What is on the servers: listing names, deleting by prefix, how the servers are."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, cast

from hiredis import ReplyError

from querycache.clock import Clock
from querycache.errors import TierError
from querycache.ports.tiers import L2Info, Listing
from querycache.tiers.redis.link import Link, Node, RefusedError, Reply, Request
from querycache.tiers.redis.names import Names, from_wire, pattern_of, to_wire
from querycache.tiers.redis.scripts import pack

_PAGE: Final = 500  # names looked at in one call
_REMEMBERED: Final = 100_000  # names: a listing of millions takes no more memory
_NOT_THERE: Final = -2
_FOREVER: Final = -1
_PING: Final = pack((b"PING",))
_HOW: Final = pack((b"INFO", b"memory")) + pack((b"DBSIZE",))


@dataclass(frozen=True)
class Inspection:
    """The servers as one link reaches them."""

    link: Link
    names: Names
    clock: Clock
    clustered: bool

    async def listed(self, prefix: str) -> AsyncIterator[Listing]:
        """Each entry whose name begins with `prefix`; once, as far as names are remembered."""
        seen: set[bytes] = set()
        async for names in self._pages(prefix):
            page = [name for name in names if name not in seen]
            if len(seen) < _REMEMBERED:
                seen.update(page)
            if not page:
                continue
            now = self.clock.wall()
            found = await self._each(page, (b"STRLEN", b"PTTL"))
            for name, (size, left) in zip(page, found, strict=True):
                if isinstance(size, int) and isinstance(left, int) and left != _NOT_THERE:
                    ends = math.inf if left == _FOREVER else now + left / 1000
                    yield Listing(from_wire(name), size, ends)

    async def purge(self, prefix: str) -> int:
        """Deletes them; how many there were."""
        purged = 0
        async for page in self._pages(prefix):
            for (gone,) in await self._each(page, (b"UNLINK",)):
                purged += cast("int", checked(gone))
        return purged

    async def info(self) -> L2Info:
        """How the servers are; of several, their sums and the slowest ping."""
        told = pack((b"EXISTS", *self.names.posts()))  # where there is another slot, a refusal
        said = await self.link.everywhere(_HOW + told, 3)
        began = self.clock.monotonic()
        await self.link.everywhere(_PING)
        ping_ms = (self.clock.monotonic() - began) * 1000
        memory = [_fields(checked(about)) for about, _, _ in said]
        used, peak, most = (
            sum(int(fields.get(name, "0")) for fields in memory)
            for name in ("used_memory", "used_memory_peak", "maxmemory")
        )
        return L2Info(
            backend="redis",
            connected=True,
            ping_ms=ping_ms,
            entries=sum(_entries(size, posts) for _, size, posts in said),
            bytes=used,
            max_bytes=most or None,
            where=where_of(self.link),
            memory_bytes=used,
            memory_peak_bytes=peak,
        )

    async def _pages(self, prefix: str) -> AsyncIterator[list[bytes]]:
        """The names as SCAN gives them: some more than once."""
        await self.link.everywhere(_PING)  # finds the primaries
        start, meta = to_wire(prefix), self.names.meta
        for node in self.link.nodes():
            cursor = b"0"
            while True:
                cursor, names = await self._scanned(node, cursor, pattern_of(start))
                page = list(dict.fromkeys(n for n in names if not n.startswith(meta)))
                if page:
                    yield page
                if cursor == b"0":
                    break

    @staticmethod
    async def _scanned(node: Node, cursor: bytes, pattern: bytes) -> tuple[bytes, list[bytes]]:
        command = pack((b"SCAN", cursor, b"MATCH", pattern, b"COUNT", _PAGE))
        (reply,) = await node.call(command)
        following, names = cast("tuple[bytes, list[bytes]]", checked(reply))
        return following, names

    async def _each(self, names: Sequence[bytes], words: Sequence[bytes]) -> list[list[Reply]]:
        """For each name the replies to the commands, of a name alone."""
        data = [b"".join(pack((word, name)) for word in words) for name in names]
        count = len(words)
        if self.clustered:
            sent = [Request(*one, count) for one in zip(names, data, strict=True)]
            return [_answered(replies) for replies in await self.link.call_many(sent)]
        all_ = await self.link.call(Request(names[0], b"".join(data), count * len(names)))
        return [all_[at : at + count] for at in range(0, len(all_), count)]


def _entries(size: Reply, posts: Reply) -> int:
    """The names on a server, but for the posts of processes."""
    held = cast("int", checked(size))
    return max(0, held - posts) if isinstance(posts, int) else held


def checked(reply: Reply) -> Reply:
    """A reply that is no error. Raises `RefusedError`."""
    if isinstance(reply, ReplyError):
        raise RefusedError(str(reply))
    return reply


def where_of(link: Link) -> str:
    """The addresses of a link's servers."""
    return ", ".join(node.where for node in link.nodes())


def _answered(replies: list[Reply] | TierError) -> list[Reply]:
    if isinstance(replies, TierError):
        raise replies
    return replies


def _fields(text: Reply) -> dict[str, str]:
    said = text.decode() if isinstance(text, bytes) else str(text)
    lines = [line.partition(":") for line in said.splitlines()]
    return {name: value.strip() for name, colon, value in lines if colon}
