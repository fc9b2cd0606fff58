"""redis-py's asyncio clients for an address: bounded, patient as the settings say, and checked.

What redis-py would do by itself and a cache can't use is set here: it would retry a refused login
and a certificate that is not trusted, wait for a minute on a frozen server, run out of connections
instead of waiting for one, and, with maintenance notifications on, skip its check for replies that
nobody read.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig
from redis.utils import HIREDIS_AVAILABLE

from querycache.errors import NotAvailableError, TierError
from querycache.tiers.redis.address import Address, Login
from querycache.tiers.redis.tls import Tls, reason

T = TypeVar("T")

_CLOSING: set[asyncio.Future[None]] = set()
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 1.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How patient a client is.

    Attributes:
        connections: Most connections; of a cluster, most to each of its nodes.
        connect_s: Longest wait for a connection, and for a free one, in seconds.
        answer_s: Longest wait for an answer, in seconds.
        retries: How often it tries again.
        retry_on_timeout: Whether it does so where a wait was too long.
    """

    connections: int = 20
    connect_s: float = 5.0
    answer_s: float = 5.0
    retries: int = 3
    retry_on_timeout: bool = True


class Closable(Protocol):
    """A client, or one of Sentinels."""

    def aclose(self) -> Coroutine[Any, Any, None]: ...


class _Retry(Retry):
    """Tries again what may do better: neither a refused login nor a failed handshake does."""

    async def call_with_retry(
        self,
        do: Callable[[], Awaitable[T]],
        fail: Callable[[Exception], Any] | Callable[[Exception, int], Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,  # noqa: FBT001, FBT002 -- redis-py's signature
    ) -> T:
        def may_do_better(error: Exception) -> bool:
            final = isinstance(error, AuthenticationError | AuthorizationError)
            if final or _handshake(error) is not None:
                return False
            return is_retryable is None or is_retryable(error)

        return await super().call_with_retry(do, fail, may_do_better, with_failure_count)


class _SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Connections to the primary that Sentinels name; who finds none free waits for one. It closes
    those to the Sentinels, too.
    """

    async def aclose(self) -> None:
        await BlockingConnectionPool.aclose(self)
        known: Sentinel = self.sentinel_manager
        await known.aclose()


def open_client(address: Address, limits: Patience) -> Redis | RedisCluster:
    """A client, not connected yet, that answers in bytes. `aclose` it in its event loop; that of
    Sentinels closes the connections to them, too.

    Raises `ConfigError` for files of TLS that can't be used.
    """
    options = _options(address.login, limits)
    if address.kind == "cluster":
        options |= _sealed(address.tls)
        options |= {"ssl": address.tls is not None, "max_connections": limits.connections}
        nodes = [ClusterNode(host, port) for host, port in address.nodes]
        return RedisCluster(startup_nodes=nodes, require_full_coverage=False, **options)
    options |= {"db": address.database, "timeout": limits.connect_s} | _sealed(address.tls)
    options |= {"max_connections": limits.connections}
    if address.kind == "sentinel":
        known = open_sentinels(address, limits)
        sealed = SentinelManagedSSLConnection if address.tls else SentinelManagedConnection
        pool = _SentinelPool(address.service, known, connection_class=sealed, **options)
        return Redis.from_pool(pool)
    if address.kind == "unix":
        where: dict[str, Any] = {"path": address.path}
        sort: type[Any] = UnixDomainSocketConnection
    else:
        where = dict(zip(("host", "port"), address.nodes[0], strict=True))
        sort = SSLConnection if address.tls else Connection
    return Redis.from_pool(BlockingConnectionPool(connection_class=sort, **where, **options))


def open_sentinels(address: Address, limits: Patience) -> Sentinel:
    """A client of the Sentinels of an address."""
    options = _options(address.sentinel_login, limits) | _sealed(address.tls)
    return Sentinel(address.nodes, sentinel_kwargs=options | {"ssl": address.tls is not None})


async def close(client: Closable) -> None:
    """Closes all connections of a client, also where whoever waits for that is cancelled: redis-py
    would leave some open then.
    """
    closing = asyncio.ensure_future(client.aclose())
    _CLOSING.add(closing)
    closing.add_done_callback(_CLOSING.discard)
    with suppress(RedisError, OSError):  # they are gone either way
        await asyncio.shield(closing)


def failure(where: str, error: Exception) -> TierError:
    """What an error of redis-py means. Never holds a secret."""
    if (handshake := _handshake(error)) is not None:
        return TierError(f"Error connecting to Redis at {where}: {reason(handshake)}")
    if isinstance(error, AuthenticationError | AuthorizationError):
        asks = "already authenticated" in str(error) or "required" in str(error)
        return TierError(
            f"Redis at {where} refuses the login: "
            + ("it asks for a password (NOAUTH)" if asks else str(error).rstrip(".")),
            remedy="set REDIS_PASSWORD, or user and password in REDIS_URL",
        )
    if isinstance(error, ResponseError):
        return TierError(f"Redis at {where} refuses: {error}")
    remedy = "start it there, or correct REDIS_HOST and REDIS_PORT or REDIS_URL"
    if isinstance(error, RedisTimeoutError):
        remedy += "; look also whether its port speaks TLS (rediss://)"
    said = str(error).rstrip(".")
    return TierError(f"Error connecting to Redis at {where}: {said}", remedy=remedy)


def _handshake(error: BaseException) -> ssl.SSLError | None:
    """The failed handshake that an error comes from."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def _options(login: Login, limits: Patience) -> dict[str, Any]:
    if not HIREDIS_AVAILABLE:  # without it redis-py has given clients other keys' values
        raise NotAvailableError("hiredis is missing", remedy="pip install hiredis")
    again = (RedisConnectionError,)
    return {
        "username": login.user or None,
        "password": login.password or None,
        "socket_connect_timeout": limits.connect_s,
        "socket_timeout": limits.answer_s,
        "client_name": "querycache-admin",
        "retry": _Retry(
            ExponentialWithJitterBackoff(base=_FIRST_WAIT_S, cap=_LONGEST_WAIT_S),
            limits.retries,
            (*again, RedisTimeoutError) if limits.retry_on_timeout else again,
        ),
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


def _sealed(tls: Tls | None) -> dict[str, Any]:
    if tls is None:
        return {}
    tls.context()  # says what is wrong with the files
    return {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
        "ssl_ca_certs": str(tls.ca) if tls.ca else None,
        "ssl_certfile": str(tls.cert) if tls.cert else None,
        "ssl_keyfile": str(tls.key) if tls.key else None,
    }
