"""The shapes that the parts of the Redis tier agree on: requests, replies, links, listeners."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from querycache.errors import TierError
from querycache.ports.tiers import Pool

Reply = object
"""What the hiredis parser makes of a reply: bytes, int, float, bool, None, list, dict; an error
reply is a `hiredis.ReplyError` as a value, for whoever asked to judge.
"""


class UnreachableError(TierError):
    """There is no connection to the server: it is down, refuses, or our breaker is open.

    Codes: refused, closed, slow, auth, tls, name, limit, busy, fork, unreachable.
    """

    def __init__(self, message: str, *, remedy: str = "", code: str = "unreachable") -> None:
        super().__init__(message, remedy=remedy)
        self.code = code


class DeadlineError(TierError):
    """The server did not answer in time. It may have done what it was asked."""


class RefusedError(TierError):
    """The server answered with an error: `code` is its first word (OOM, READONLY, NOPERM...)."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.code = message.partition(" ")[0]


class Request(NamedTuple):
    """Commands that travel together to the server which holds `key`.

    Attributes:
        key: A name of its slot, for the way in a cluster; all names in `data` are of that slot.
        data: One or more packed commands.
        replies: How many replies they get.
    """

    key: bytes
    data: bytes
    replies: int = 1


class Link(Protocol):
    """The way of one event loop to the server, or to the nodes of a cluster. Connections are made
    when first needed and made again when lost; nothing here retries what may have been executed.

    Every method raises only `TierError`, and within the deadline.
    """

    def call(self, request: Request) -> Awaitable[list[Reply]]:
        """Sends a request; its replies, in order. Who is cancelled while waiting leaves: the
        replies are dropped when they come, and the connection stays in use.
        """
        ...

    async def call_many(self, requests: Sequence[Request]) -> list[list[Reply] | TierError]:
        """Sends all at once, grouped by node; the replies of each, or why there are none."""
        ...

    async def everywhere(self, data: bytes, replies: int = 1) -> list[list[Reply]]:
        """Sends to each primary (one node: to that one)."""
        ...

    def nodes(self) -> list[Node]:
        """The primaries that are known now."""
        ...

    def pool(self) -> Pool: ...

    async def close(self) -> None: ...


class Node(Protocol):
    """One server, as one event loop reaches it."""

    where: str
    """`host:port` or the path of a socket; never with a secret."""

    def call(self, data: bytes, replies: int = 1) -> Awaitable[list[Reply]]: ...


class Listener(Protocol):
    """Hears what the connections of a process live through. Called from the event loops that the
    connections belong to; safe under threads, and never blocks.
    """

    def joined(self, channel: object, *, late: bool = False) -> None:
        """`channel` (one connection) is tracked from now on: what changes after this is told.
        `late`: what it tells of may have changed before, and nobody told.
        """
        ...

    def left(self, channel: object, *, gone: bool) -> None:
        """`channel` is lost; whoever had it tries to connect anew, unless it is `gone` for good
        (closed, its loop ended, its node left the cluster).
        """
        ...

    def heard(self, push: list[object]) -> None:
        """A push of a tracked connection, as parsed: `[b"invalidate", [names] or None]`, or
        `[b"message", channel, payload]`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a connection says before anything else travels on it.

    Attributes:
        user: ACL user; "" for the default user.
        password: Never shown; "" for none.
        database: Number of the database.
        name: For CLIENT SETNAME.
        scripts: Lua sources to load.
        prefixes: Names that begin with one of these are tracked (broadcast mode).
        channel: The pub/sub channel to subscribe to where the server refuses to track.
    """

    user: str = ""
    password: str = field(default="", repr=False)
    database: int = 0
    name: str = "querycache"
    scripts: tuple[bytes, ...] = ()
    prefixes: tuple[bytes, ...] = ()
    channel: bytes = b""
