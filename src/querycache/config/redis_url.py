"""The address of Redis as one text: of a server, its socket, its Sentinels or a cluster."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl, unquote

from querycache.config.secret import Secret

Kind = Literal["single", "unix", "sentinel", "cluster"]

_SCHEMES: dict[str, tuple[Kind, bool]] = {
    "redis": ("single", False),
    "rediss": ("single", True),
    "unix": ("unix", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
SCHEMES = tuple(_SCHEMES)

_URL = re.compile(r"([a-z+]+)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(#.*)?", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?")
_PORT, _SENTINEL_PORT = 6379, 26379
_MOST_DATABASES = 65536
_SAFE = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}  # what holds anyway
_ENCODE = "percent-encode the characters @ / ? # , : of a user or password"


class WrongUrlError(ValueError):
    """What is wrong with an address; the message never holds a user or a password."""


class RedisUrl(NamedTuple):
    """What an address says.

    Attributes:
        kind: One server, the socket of one, one that Sentinels know, or a cluster.
        tls: Whether it asks for TLS.
        nodes: Hosts and ports: of the server, of the Sentinels, of some nodes of the cluster.
        path: Of the socket.
        service: Name of the primary at the Sentinels.
        user: "" for the default user.
        database: None where it names none.
        sentinel_user: The same for the Sentinels themselves.
    """

    kind: Kind
    tls: bool
    nodes: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    user: str = ""
    password: Secret = Secret()
    database: int | None = None
    sentinel_user: str = ""
    sentinel_password: Secret = Secret()


def read_redis_url(text: str) -> RedisUrl:
    """Reads an address. Raises `WrongUrlError`."""
    found = _URL.fullmatch(text)
    if found is None or found[1].lower() not in _SCHEMES:
        raise WrongUrlError("it begins with none of " + ", ".join(f"{s}://" for s in _SCHEMES))
    if found[5] or "@" in (found[3] + (found[4] or "")):
        raise WrongUrlError(_ENCODE)
    kind, tls = _SCHEMES[found[1].lower()]
    login, _, hosts = found[2].rpartition("@")
    user, _, password = login.partition(":")
    asked = _parameters(found[4] or "", kind)
    path, service, database = _place(kind, found[3])
    if "db" in asked:
        named = _number(asked["db"])
        if database not in {None, named}:
            raise WrongUrlError("its path and its parameter db name two databases")
        database = named
    if kind == "cluster" and database:
        raise WrongUrlError("a cluster has no database but 0")
    return RedisUrl(
        kind,
        tls,
        _hosts(kind, hosts),
        path,
        service,
        _plain(user),
        Secret(_plain(password)),
        database,
        asked.get("sentinel_user", ""),
        Secret(asked.get("sentinel_password", "")),
    )


def _hosts(kind: Kind, text: str) -> tuple[tuple[str, int], ...]:
    if kind == "unix":
        if text:
            raise WrongUrlError("the path of a socket is absolute: unix:///run/redis.sock")
        return ()
    default = _SENTINEL_PORT if kind == "sentinel" else _PORT
    nodes: list[tuple[str, int]] = []
    for one in text.split(","):
        found = _HOST.fullmatch(one)
        port = int((found and found[3]) or default)
        if found is None or not 0 < port <= 65535:  # noqa: PLR2004 -- ports have 16 bits
            raise WrongUrlError(f"a host or port is missing or wrong; {_ENCODE}")
        nodes.append((found[1] or found[2], port))
    if kind == "single" and len(nodes) > 1:
        raise WrongUrlError("several hosts are those of redis+sentinel:// or redis+cluster://")
    return tuple(nodes)


def _place(kind: Kind, text: str) -> tuple[str, str, int | None]:
    """The path of the socket, the service and the database that the path of an address names."""
    if kind == "unix":
        if not text.strip("/"):
            raise WrongUrlError("it names no socket: unix:///run/redis.sock")
        return _plain(text), "", None
    service = ""
    rest = text.removeprefix("/")
    if kind == "sentinel":
        service, _, rest = rest.partition("/")
        if not service:
            raise WrongUrlError("it names no service: redis+sentinel://host:26379/service/0")
    return "", _plain(service), _number(rest) if rest else None


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) >= _MOST_DATABASES:
        raise WrongUrlError("a database is a number from 0 to 65535")
    return int(text)


def _parameters(query: str, kind: Kind) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise WrongUrlError("its parameters are not name=value&name=value") from None
    allowed = {"db", *_SAFE}
    if kind == "sentinel":
        allowed |= {"sentinel_user", "sentinel_password"}
    asked = dict(pairs)
    if len(asked) < len(pairs):
        raise WrongUrlError("it gives a parameter twice")
    for name, value in pairs:
        if name not in allowed:
            shown = repr(name) if re.fullmatch("[a-z_]{1,40}", name) else "(not shown)"
            known = ", ".join(sorted(allowed))
            raise WrongUrlError(f"its parameter {shown} is not known; known are {known}")
        if name in _SAFE and value.lower() != _SAFE[name]:
            raise WrongUrlError(f"{name} can't be switched off: a certificate is always checked")
    return asked


def _plain(text: str) -> str:
    try:
        plain = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise WrongUrlError("its percent-encoding is not UTF-8") from None
    if "\0" in plain:
        raise WrongUrlError("it holds a NUL")
    return plain
