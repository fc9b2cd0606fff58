"""Where a server listens, and what a failure to connect to it means."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from dataclasses import dataclass, field
from typing import Final

from querycache.tiers.redis.link import UnreachableError
from querycache.tiers.redis.tls import reason


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address.

    Attributes:
        host: Name or IP address.
        port: TCP port.
        path: Of a Unix socket; then host and port don't count.
        tls: How to encrypt; None for a plain connection.
        server_hostname: The name that the certificate must bear, where it is not `host`.
    """

    host: str = "localhost"
    port: int = 6379
    path: str = ""
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    server_hostname: str = ""

    @property
    def where(self) -> str:
        """`host:port`, or the path."""
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


_START: Final = "start Redis there, or correct the address"
_BY_NUMBER: Final = {
    errno.ECONNREFUSED: ("refused", "refused", _START),
    errno.ENOENT: ("no such socket", "refused", _START),
    errno.EACCES: ("permission denied", "refused", "give this user access to the socket"),
    errno.EMFILE: ("too many open files", "limit", "raise the limit on open files (ulimit -n)"),
    errno.ENFILE: ("too many open files", "limit", "raise the machine's limit on open files"),
    errno.ECONNRESET: ("reset", "closed", "look into the server's log"),
    errno.EPIPE: ("reset", "closed", "look into the server's log"),
    errno.ECONNABORTED: ("reset", "closed", "look into the server's log"),
}
"""Cause, code, remedy."""


def explain(where: str, error: OSError) -> UnreachableError:
    """What an attempt to connect failed of, with cause and remedy."""
    cause, code, remedy = _reason(error)
    return UnreachableError(
        f"Error connecting to Redis at {where}: {cause}", remedy=remedy, code=code
    )


def _reason(error: OSError) -> tuple[str, str, str]:
    if isinstance(error, ssl.SSLCertVerificationError):
        return reason(error), "tls", "name the right CA file, or correct the server's certificate"
    if isinstance(error, ssl.SSLError):
        remedy = "check that the port speaks TLS and which certificates it asks for"
        return reason(error), "tls", remedy
    if isinstance(error, socket.gaierror):
        return "host not found", "name", "correct the host's name, or the machine's resolver"
    if error.errno is None:  # several addresses were tried, or TLS met an early end
        found = re.search(r"\[Errno (\d+)\]", str(error))
        number = int(found[1]) if found else errno.ECONNRESET
    else:
        number = error.errno
    if number in _BY_NUMBER:
        return _BY_NUMBER[number]
    return (error.strerror or type(error).__name__).lower(), "unreachable", _START
