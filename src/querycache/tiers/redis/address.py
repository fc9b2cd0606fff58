"""Where Redis is, whom we log in as, and whether the way there is sealed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from querycache.tiers.redis.tls import Tls

Kind = Literal["single", "unix", "sentinel", "cluster"]


@dataclass(frozen=True, slots=True)
class Login:
    """A user and a password; "" for the default user, or for none."""

    user: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Address:
    """Where Redis is. Holds secrets, and shows none.

    Attributes:
        kind: One server, the socket of one, one that Sentinels know, or a cluster.
        nodes: Hosts and ports: of the server, of the Sentinels, of some nodes of the cluster.
        path: Of the socket.
        service: Name of the primary at the Sentinels.
        login: At the servers.
        sentinel_login: At the Sentinels.
        database: Its number; 0 in a cluster.
        tls: The files of TLS, None without it. Sentinels are reached likewise.
    """

    kind: Kind
    nodes: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    login: Login = Login()
    sentinel_login: Login = Login()
    database: int = 0
    tls: Tls | None = None

    @property
    def where(self) -> str:
        """As it stands in messages: `host:port`, a path, or several nodes; no secret."""
        if self.kind == "unix":
            return self.path
        nodes = ",".join(spelled(*node) for node in self.nodes)
        if self.kind == "sentinel":
            return f"{self.service} at the Sentinels {nodes}"
        return f"the cluster of {nodes}" if self.kind == "cluster" else nodes


def spelled(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
