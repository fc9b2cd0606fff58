"""Looks at Redis servers as a stranger would: does the port answer, does TLS, does the login, how
fast, and what does the server say of itself.

Each step has a connection of its own, so that what it finds is no other step's fault.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import Final

import hiredis

from querycache.clock import Clock
from querycache.errors import ConfigError, TierError
from querycache.ports.probing import Certificate, Probed, Redis, Trouble
from querycache.tiers.redis.address import Address
from querycache.tiers.redis.certificates import configured, presented
from querycache.tiers.redis.connection import Connection, Limits
from querycache.tiers.redis.endpoint import Endpoint, explain
from querycache.tiers.redis.greeting import connect, pack
from querycache.tiers.redis.link import Greeting, UnreachableError
from querycache.tiers.redis.tls import reason, which

_PATIENCE_S: Final = 1.5
_PINGS: Final = 10
_PINGING_S: Final = 1.5
_BYE: Final = b"PING\r\n"
_SILENT: Final = {"unreachable", "hung", "tls.plain_server"}
_TLS_TROUBLES: Final[dict[str, Trouble]] = {
    "plain": "tls.plain_server",
    "ca": "tls.ca",
    "expired": "tls.expired",
    "hostname": "tls.hostname",
    "client_cert": "tls.client_cert",
}


class _Owner:
    """Nobody who needs to hear."""

    def heard(self, push: list[object]) -> None:
        """Nothing is tracked."""

    def late(self, count: int) -> None:
        """Whoever waits is told."""

    def lost(self, connection: Connection, error: UnreachableError) -> None:
        """Likewise."""


async def probe(address: Address, clock: Clock) -> Redis:
    """The servers of an address: of Sentinels their primary, of a cluster its nodes as named."""
    try:
        endpoints = await _endpoints(address)
    except ConfigError as error:
        return Redis((Probed(address.where, "tls.failed", str(error)),))
    except TierError as error:
        return Redis((Probed(address.where, "unreachable", str(error)),))
    servers = await asyncio.gather(*(_Look(address, one, clock).whole() for one in endpoints))
    found: list[Certificate] = []
    if address.tls is not None:
        found = await asyncio.to_thread(configured, address.tls)
        with suppress(ConfigError):
            for one, looked in zip(endpoints, servers, strict=True):
                if looked.trouble not in _SILENT:
                    found += await presented(one, address.tls, _PATIENCE_S)
    return Redis(tuple(servers), tuple(found))


async def _endpoints(address: Address) -> list[Endpoint]:
    tls = address.tls.context() if address.tls else None
    if address.kind == "unix":
        return [Endpoint(path=address.path)]
    nodes = address.nodes
    if address.kind == "sentinel":
        nodes = (await _primary(address),)
    return [Endpoint(host, port, tls=tls) for host, port in nodes]


async def _primary(address: Address) -> tuple[str, int]:
    from querycache.tiers.redis import clients, sentinel  # noqa: PLC0415 -- they load redis-py

    patience = clients.Patience(connect_s=_PATIENCE_S, answer_s=_PATIENCE_S, retries=0)
    known = clients.open_sentinels(address, patience)
    try:
        return await sentinel.primary(address, known)
    finally:
        await clients.close(known)


class _Look:
    """A look at one server."""

    def __init__(self, address: Address, endpoint: Endpoint, clock: Clock) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._login = address.login
        self._database = address.database

    async def whole(self) -> Probed:
        """The steps in order; the first that fails is the trouble."""
        where = self._endpoint.where
        if (words := await self._reach()) is not None:
            return Probed(where, "unreachable", words)
        if self._endpoint.tls is not None:
            trouble, words = await self._shake_hands()
            if trouble is not None:
                return Probed(where, trouble, words, reached=True)
        try:
            return await self._ask()
        except UnreachableError as error:
            trouble, words = await self._judged(error)
        except TierError as error:
            trouble, words = "hung", str(error)
        return Probed(where, trouble, words, reached=True)

    async def _reach(self) -> str | None:
        """Why the port takes no connection."""
        try:
            _, writer = await self._open()
        except TimeoutError:
            return f"no answer to a connection within {_PATIENCE_S:g} s"
        except OSError as error:
            return str(explain(self._endpoint.where, error))
        writer.transport.abort()
        return None

    async def _shake_hands(self) -> tuple[Trouble | None, str]:
        """What TLS fails of; TLS 1.3 tells only after the handshake that a certificate lacks."""
        try:
            reader, writer = await self._open(self._endpoint.tls)
        except ssl.SSLError as error:
            return _TLS_TROUBLES.get(which(error), "tls.failed"), reason(error)
        except OSError as error:  # TimeoutError is one
            if await self._speaks_plainly():
                return "tls.plain_server", "what answers there speaks no TLS"
            if isinstance(error, TimeoutError):
                return "hung", f"no TLS handshake within {_PATIENCE_S:g} s"
            return "tls.failed", reason(error)
        return await self._first_byte(reader, writer)

    @staticmethod
    async def _first_byte(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[Trouble | None, str]:
        """What a server says after the handshake of what it has against us."""
        data = b""
        try:
            writer.write(_BYE)
            async with asyncio.timeout(_PATIENCE_S):
                data = await reader.read(1)
        except ssl.SSLError as error:
            return _TLS_TROUBLES.get(which(error), "tls.failed"), reason(error)
        except TimeoutError:
            return "hung", f"no answer within {_PATIENCE_S:g} s after the TLS handshake"
        except ConnectionError:
            pass  # as if it had been closed in order
        finally:
            writer.transport.abort()
        closed = "the server closed the connection after the handshake"
        return (None, "") if data else ("tls.client_cert", closed)

    async def _speaks_plainly(self) -> bool:
        with suppress(TimeoutError, OSError):
            reader, writer = await self._open()
            try:
                writer.write(_BYE)
                async with asyncio.timeout(_PATIENCE_S):
                    return (await reader.read(1)) in {b"+", b"-"}
            finally:
                writer.transport.abort()
        return False

    async def _wants_tls(self) -> bool:
        """Whether the server speaks TLS, whatever it thinks of us."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # nothing is sent but the handshake
        try:
            _, writer = await self._open(context)
        except ssl.SSLError as error:
            return which(error) == "client_cert"
        except (TimeoutError, OSError):
            return False
        writer.transport.abort()
        return True

    async def _open(
        self, tls: ssl.SSLContext | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        at = self._endpoint
        async with asyncio.timeout(_PATIENCE_S):
            if at.path:
                return await asyncio.open_unix_connection(at.path)
            try:
                return await asyncio.open_connection(at.host, at.port, ssl=tls)
            except UnicodeError as error:  # no host can be called that
                raise socket.gaierror(str(error)) from error

    async def _judged(self, error: UnreachableError) -> tuple[Trouble, str]:
        if error.code == "auth":
            return "auth", str(error)
        if error.code == "tls":
            return "tls.failed", str(error)
        plain = self._endpoint.tls is None and not self._endpoint.path
        if error.code == "closed" and plain and await self._wants_tls():
            return "tls.required", "the server speaks TLS, and REDIS_SSL_ENABLED is false"
        return "hung" if error.code == "slow" else "unreachable", str(error)

    async def _ask(self) -> Probed:
        login = self._login
        greeting = Greeting(login.user, login.password, self._database, "querycache-doctor")
        limits = Limits(deadline_s=_PATIENCE_S, patience_s=_PATIENCE_S)
        connection = await connect(self._endpoint, greeting, _Owner(), limits)
        try:
            now = self._clock.monotonic
            pings: list[float] = []
            until = now() + _PINGING_S
            while len(pings) < _PINGS and now() < until:
                began = now()
                await connection.call(pack("PING"))
                pings.append((now() - began) * 1000)
            before = self._clock.wall()
            (told,) = await connection.call(pack("TIME"))
            midway = (before + self._clock.wall()) / 2
            (info,) = await connection.call(pack("INFO"))
        finally:
            connection.close()
        return Probed(
            self._endpoint.where,
            reached=True,
            pings_ms=tuple(pings),
            ahead_s=_seconds(told, midway),
            info=_fields(info),
        )


def _seconds(told: object, now: float) -> float | None:
    match told:
        case [bytes(whole), bytes(millionths)]:
            return int(whole) + int(millionths) / 1e6 - now
        case _:  # it may not be asked
            return None


def _fields(told: object) -> dict[str, str]:
    if isinstance(told, hiredis.ReplyError) or not isinstance(told, bytes | str):
        return {}
    text = told.decode("utf-8", "replace") if isinstance(told, bytes) else told
    lines = [line.partition(":") for line in text.splitlines()]
    return {name: value.strip() for name, colon, value in lines if colon}
