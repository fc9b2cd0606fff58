"""What a look at a Redis server from outside finds, and where it stops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

Trouble = Literal[
    "unreachable",
    "hung",
    "auth",
    "tls.plain_server",
    "tls.required",
    "tls.ca",
    "tls.expired",
    "tls.hostname",
    "tls.client_cert",
    "tls.failed",
]


class Certificate(msgspec.Struct, frozen=True):
    """A certificate. `not_after` in wall seconds; `chain` says whether the configured CA vouches
    for it.
    """

    role: str
    path: str
    subject: str
    not_after: float
    chain: str


class Probed(msgspec.Struct, frozen=True):
    """One server.

    Attributes:
        where: `host:port`, or the path of its socket.
        trouble: Why it can't be used; None where it can.
        words: The server's own, or the system's, about the trouble.
        reached: Whether the port takes connections.
        pings_ms: How long each PING took.
        ahead_s: How far its clock is ahead of ours; None where it was not told.
        info: The fields of its INFO.
    """

    where: str
    trouble: Trouble | None = None
    words: str = ""
    reached: bool = False
    pings_ms: tuple[float, ...] = ()
    ahead_s: float | None = None
    info: Mapping[str, str] = {}

    def number(self, field: str) -> int:
        """A field of INFO that counts; 0 where there is none."""
        text = self.info.get(field, "")
        return int(text) if text.isdecimal() else 0


class Redis(msgspec.Struct, frozen=True):
    """The servers of an address, and the certificates of its settings and of its servers."""

    servers: tuple[Probed, ...]
    certificates: tuple[Certificate, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether all of them can be used."""
        return all(one.trouble is None for one in self.servers)


def passed(servers: Sequence[Probed]) -> list[Probed]:
    """Those that answered."""
    return [one for one in servers if one.trouble is None]
