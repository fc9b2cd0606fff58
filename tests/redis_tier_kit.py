"""Redis tiers over real servers, as processes of their own have them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

from tests.redis_kit import RedisServer

from querycache.clock import Clock, SystemClock
from querycache.ports.tiers import Changes, Write
from querycache.tiers.redis import OpenLink, RedisTier
from querycache.tiers.redis.connection import Limits
from querycache.tiers.redis.endpoint import Endpoint
from querycache.tiers.redis.link import Greeting, Link, Listener
from querycache.tiers.redis.node import RedisNode, fixed
from querycache.tiers.redis.single import SingleLink

PREFIX = "codebase_rag"
CLOCK = SystemClock()
LIFE_S = 600.0
PATIENCE = Limits(deadline_s=5.0)
"""For what is no test of deadlines: the machine may be busy."""

UNTRACKED = "untracked"
"""A user who may do all but track, with a password of the same name."""


def opener(
    endpoint: Endpoint,
    *,
    user: str = "",
    limits: Limits = PATIENCE,
    made: list[Link] | None = None,
) -> OpenLink:
    """Makes links to a server; each is added to `made`."""

    def open_link(greeting: Greeting, listener: Listener) -> Link:
        said = replace(greeting, user=user, password=user)
        node = RedisNode(
            fixed(endpoint),
            said,
            clock=CLOCK,
            listener=listener,
            limits=limits,
            where=endpoint.where,
        )
        link = SingleLink(node)
        if made is not None:
            made.append(link)
        return link

    return open_link


def endpoint_of(server: RedisServer) -> Endpoint:
    return Endpoint(*server.address)


def tier_at(
    server: RedisServer,
    *,
    user: str = "",
    clock: Clock = CLOCK,
    limits: Limits = PATIENCE,
    max_bytes: int = 64 * 1024 * 1024,
    made: list[Link] | None = None,
) -> RedisTier:
    open_link = opener(endpoint_of(server), user=user, limits=limits, made=made)
    return RedisTier(open_link, prefix=PREFIX, clock=clock, max_bytes=max_bytes)


async def forbid_tracking(server: RedisServer) -> None:
    """Makes the user `UNTRACKED`."""
    rules = ("on", f">{UNTRACKED}", "~*", "&*", "+@all", "-client|tracking")
    await server.ask("ACL", "SETUSER", UNTRACKED, *rules)


@asynccontextmanager
async def two_tiers(
    server: RedisServer, user: str = ""
) -> AsyncGenerator[tuple[RedisTier, RedisTier]]:
    """Two that are connected."""
    if user:
        await forbid_tracking(server)
    ours, theirs = tier_at(server, user=user), tier_at(server, user=user)
    try:
        for tier in (ours, theirs):
            await tier.stamps(["connected"])
            assert not (await told(tier)).deaf
        yield ours, theirs
    finally:
        await ours.close()
        await theirs.close()


def entry(
    key: str, data: bytes = b"value", *, guard: int | None = None, tell: bool = True
) -> Write:
    return Write(key, data, CLOCK.wall() + LIFE_S, (), guard, tell)


async def told(tier: RedisTier) -> Changes:
    """A drain of all that the server acknowledged to anyone: a reply follows the pushes of what
    was done before.
    """
    await tier.read(["a barrier"], fenced=False)
    return tier.backplane.drain()


async def value(tier: RedisTier, key: str) -> bytes | None:
    return (await tier.read([key]))[0].data
