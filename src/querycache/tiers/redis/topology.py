"""From an address to links: one server, its socket, the primary of Sentinels, or a cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from querycache.clock import Clock
from querycache.tiers.redis.address import Address
from querycache.tiers.redis.cluster import ClusterLink
from querycache.tiers.redis.connection import Limits
from querycache.tiers.redis.endpoint import Endpoint
from querycache.tiers.redis.link import Greeting, Link, Listener
from querycache.tiers.redis.node import RedisNode, fixed
from querycache.tiers.redis.single import SingleLink

MakeLink = Callable[[Greeting, Listener | None], Link]
"""Makes a link for the running loop. User, password and database are the address's, whatever the
greeting says.
"""


def links(address: Address, *, clock: Clock, limits: Limits) -> MakeLink:
    """How to make links to an address. Reads the files of TLS, once: `ConfigError` where they
    can't be used.
    """
    tls = address.tls.context() if address.tls else None
    if address.kind == "sentinel":
        from querycache.tiers.redis import sentinel  # noqa: PLC0415 -- it loads redis-py

        def follow(greeting: Greeting, listener: Listener | None) -> Link:
            return sentinel.SentinelLink(
                address,
                _as_user(address, greeting),
                tls=tls,
                clock=clock,
                listener=listener,
                limits=limits,
            )

        return follow
    endpoints = [Endpoint(host, port, tls=tls) for host, port in address.nodes]
    if address.kind == "unix":
        endpoints = [Endpoint(path=address.path)]

    def make(greeting: Greeting, listener: Listener | None) -> Link:
        said = _as_user(address, greeting)
        if address.kind == "cluster":
            return ClusterLink(endpoints, said, clock=clock, listener=listener, limits=limits)
        node = RedisNode(
            fixed(endpoints[0]),
            said,
            clock=clock,
            listener=listener,
            limits=limits,
            where=endpoints[0].where,
        )
        return SingleLink(node)

    return make


def _as_user(address: Address, greeting: Greeting) -> Greeting:
    login = address.login
    return replace(greeting, user=login.user, password=login.password, database=address.database)
