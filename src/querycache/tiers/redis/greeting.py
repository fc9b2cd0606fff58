"""What a new connection says before anything else: who we are, and what we want to hear.

All of it leaves in one write, so that it costs one round trip. Credentials go by AUTH, ahead of
HELLO: an old server that knows no HELLO takes them too, and no error text quotes them.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

import hiredis

from querycache.errors import TierError
from querycache.tiers.redis.connection import Connection, Hearing, Limits, Owner
from querycache.tiers.redis.endpoint import Endpoint, explain
from querycache.tiers.redis.link import DeadlineError, Greeting, UnreachableError

_AUTH: Final = frozenset({"WRONGPASS", "NOAUTH", "NOPERM"})
_CREDENTIALS: Final = "correct the user and the password in the settings"


def pack(*words: bytes | str | int) -> bytes:
    """A command as it travels."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        raw = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(parts)


async def connect(
    endpoint: Endpoint, greeting: Greeting, owner: Owner, limits: Limits
) -> Connection:
    """A connection that has been greeted.

    Raises:
        UnreachableError: Nobody answers there, or whoever does refuses; with cause and remedy.
        DeadlineError: It took longer than `limits.patience_s`.
    """
    connection = Connection(endpoint.where, owner, limits)
    try:
        async with asyncio.timeout(limits.patience_s):
            await _open(endpoint, connection)
            await _greet(connection, greeting)
    except TimeoutError:
        raise _too_slow(connection, endpoint, limits) from None
    except OSError as error:
        connection.close()
        raise _refused(endpoint, error) from None
    except BaseException:
        connection.close()
        raise
    connection.greeted()
    return connection


def _refused(endpoint: Endpoint, error: OSError) -> TierError:
    if not isinstance(error, TierError):
        return explain(endpoint.where, error)
    if not isinstance(error, UnreachableError) or error.code != "closed":
        return error
    message = f"Error connecting to Redis at {endpoint.where}: it closed the connection"
    if endpoint.tls is None:
        remedy = "check that a Redis server without TLS listens there, and its maxclients"
        return UnreachableError(message, remedy=remedy, code="closed")
    remedy = "check the client certificate, which it may ask for"
    return UnreachableError(f"{message} after the TLS handshake", remedy=remedy, code="tls")


def _too_slow(connection: Connection, endpoint: Endpoint, limits: Limits) -> DeadlineError:
    connection.close()
    remedy = "look into the server's log and its load"
    if endpoint.tls is not None:
        remedy = "check that the port speaks TLS, and the server's load"
    return DeadlineError(
        f"Error connecting to Redis at {endpoint.where}: "
        f"no answer within {1000 * limits.patience_s:.0f} ms",
        remedy=remedy,
    )


async def _open(endpoint: Endpoint, connection: Connection) -> None:
    loop = asyncio.get_running_loop()
    tls = endpoint.tls
    name = None if tls is None else endpoint.server_hostname or endpoint.host
    if endpoint.path:
        await loop.create_unix_connection(
            lambda: connection, endpoint.path, ssl=tls, server_hostname=name
        )
    else:
        await loop.create_connection(
            lambda: connection, endpoint.host, endpoint.port, ssl=tls, server_hostname=name
        )


async def _greet(connection: Connection, greeting: Greeting) -> None:
    said = [(name, connection.call(data)) for name, data in _flight(greeting)]
    try:
        for name, waiting in said:
            (reply,) = await waiting
            if isinstance(reply, hiredis.ReplyError):
                _judge(connection.where, name, str(reply))
                connection.refused[name] = str(reply)
            elif name == "HELLO":
                connection.server = cast("dict[bytes, object]", reply)
    finally:
        for _, waiting in said:
            waiting.cancel()
    if "HELLO" not in connection.refused:
        connection.hearing = await _listen(connection, greeting)


async def _listen(connection: Connection, greeting: Greeting) -> Hearing:
    if greeting.prefixes and "TRACKING" not in connection.refused:
        return "tracked"
    if greeting.channel:
        (reply,) = await connection.call(pack("SUBSCRIBE", greeting.channel))
        if not isinstance(reply, hiredis.ReplyError):
            return "subscribed"
    return "deaf"


def _flight(greeting: Greeting) -> list[tuple[str, bytes]]:
    said: list[tuple[str, bytes]] = []
    if greeting.password:
        user = [greeting.user] if greeting.user else []
        said.append(("AUTH", pack("AUTH", *user, greeting.password)))
    said.append(("HELLO", pack("HELLO", 3)))
    if greeting.database:
        said.append(("SELECT", pack("SELECT", greeting.database)))
    if greeting.name:
        said.append(("SETNAME", pack("CLIENT", "SETNAME", greeting.name)))
    said += [("SCRIPT", pack("SCRIPT", "LOAD", script)) for script in greeting.scripts]
    if greeting.prefixes:
        words = [word for prefix in greeting.prefixes for word in (b"PREFIX", prefix)]
        tracking = pack("CLIENT", "TRACKING", "ON", "BCAST", *words)
        said.append(("TRACKING", tracking))
    return said


def _judge(where: str, name: str, error: str) -> None:
    """Raises where there is no going on after such an error."""
    code = error.partition(" ")[0]
    cause, remedy, kind = "", "", "refused"
    if "max number of clients" in error:
        cause, kind = "it has as many clients as it takes (maxclients)", "limit"
        remedy = "raise maxclients, or stop clients that are not needed"
    elif code == "LOADING":
        cause, remedy = "it is still loading its data", "wait; this heals by itself"
    elif name == "AUTH":
        kind = "auth"
        if "without any password" in error:
            cause = "a password is set here, but the server has none"
            remedy = "set one on the server, or take it out of the settings"
        else:
            cause, remedy = f"wrong user or password ({_code_of(code)})", _CREDENTIALS
    elif code == "NOAUTH":
        cause, remedy, kind = "it asks for a password (NOAUTH)", _CREDENTIALS, "auth"
    elif name == "SELECT":
        cause, remedy = f"it refuses the database ({error})", "correct the database's number"
    if cause:
        raise UnreachableError(
            f"Error connecting to Redis at {where}: {cause}", remedy=remedy, code=kind
        )


def _code_of(code: str) -> str:
    return code if code in _AUTH else "refused"
