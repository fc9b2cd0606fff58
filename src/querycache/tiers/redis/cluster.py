"""The link to a cluster: each request goes to the primary that holds its slot.

A redirected request was not executed, so it is sent on: MOVED is believed at once for its slot,
ASK for that one request. Whatever else a node says of the cluster's state (TRYAGAIN, CLUSTERDOWN,
LOADING, MASTERDOWN) is an error of that request alone. All of it takes no longer than the deadline
of one call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import TypeVar, cast

import hiredis

from querycache.clock import Clock
from querycache.errors import TierError
from querycache.ports.tiers import Pool
from querycache.tiers.redis.connection import Limits
from querycache.tiers.redis.endpoint import Endpoint
from querycache.tiers.redis.greeting import pack
from querycache.tiers.redis.link import (
    DeadlineError,
    Greeting,
    Listener,
    Node,
    RefusedError,
    Reply,
    Request,
    UnreachableError,
)
from querycache.tiers.redis.members import Members
from querycache.tiers.redis.names import slot_of
from querycache.tiers.redis.node import RedisNode

T = TypeVar("T")

_HOPS = 3  # redirections of one request
_REDIRECTS = {"MOVED", "ASK"}
_TROUBLES = _REDIRECTS | {"TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN"}
_ASKING = pack("ASKING")

Sent = tuple[RedisNode, Awaitable[list[Reply]]]


class ClusterLink:
    """A `link.Link` to the primaries of a cluster."""

    def __init__(
        self,
        seeds: Sequence[Endpoint],
        greeting: Greeting,
        *,
        clock: Clock,
        listener: Listener | None = None,
        limits: Limits | None = None,
    ) -> None:
        """For the running loop. `seeds` are some nodes of the cluster; all are reached alike."""
        limits = limits or Limits()
        self._deadline_s = limits.deadline_s
        self._time = asyncio.get_running_loop().time
        self._members = Members(seeds, greeting, clock=clock, listener=listener, limits=limits)

    def call(self, request: Request) -> Awaitable[list[Reply]]:
        """Raises UnreachableError at once where the slot's primary is known to be down."""
        until = self._time() + self._deadline_s
        node = self._members.holder(slot_of(request.key))
        if node is None:
            return self._first(request, until)
        return self._settle(request, (node, self._send(node, request)), until)

    async def call_many(self, requests: Sequence[Request]) -> list[list[Reply] | TierError]:
        until = self._time() + self._deadline_s
        with suppress(TierError):  # each request tells its own
            await self._ready({slot_of(request.key) for request in requests}, until)
        calls = [self._attempt(request) for request in requests]
        results: list[list[Reply] | TierError] = []
        try:
            for request, call in zip(requests, calls, strict=True):
                results.append(await self._outcome(request, call, until))
        finally:
            for call in calls[len(results) :]:  # who waits here was cancelled
                if not isinstance(call, TierError):
                    asyncio.ensure_future(call[1]).cancel()
        return results

    async def everywhere(self, data: bytes, replies: int = 1) -> list[list[Reply]]:
        until = self._time() + self._deadline_s
        await self._by(until, self._members.known())
        calls = [
            asyncio.ensure_future(_called(node, data, replies))
            for node in self._members.primaries()
        ]
        try:
            return await asyncio.gather(*calls)
        finally:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    def nodes(self) -> list[Node]:
        return [*self._members.primaries()]

    def pool(self) -> Pool:
        pools = [node.pool() for node in self._members.all()]
        available = sum(pool.available for pool in pools)
        in_use = sum(pool.in_use for pool in pools)
        return Pool(available + in_use, available, in_use, most=len(pools))

    async def close(self) -> None:
        await self._members.close()

    # --- the way of a request ------------------------------------------------------------------

    async def _first(self, request: Request, until: float) -> list[Reply]:
        slot = slot_of(request.key)
        await self._ready({slot}, until)
        node = self._members.owner(slot)
        return await self._settle(request, (node, self._send(node, request)), until)

    async def _ready(self, slots: set[int], until: float) -> None:
        """Returns when the map is known, and the nodes of these slots are connected or down."""
        await self._by(until, self._members.known())
        nodes = {node for slot in slots if (node := self._members.holder(slot)) is not None}
        if waits := [node.reach() for node in nodes if node.connection is None]:
            await self._by(until, asyncio.gather(*waits, return_exceptions=True))

    def _send(self, node: RedisNode, request: Request) -> Awaitable[list[Reply]]:
        try:
            return node.call(request.data, request.replies)
        except UnreachableError:
            self._members.refresh_soon()
            raise

    def _attempt(self, request: Request) -> Sent | TierError:
        try:
            node = self._members.owner(slot_of(request.key))
            return node, self._send(node, request)
        except TierError as error:
            return error

    async def _outcome(
        self, request: Request, call: Sent | TierError, until: float
    ) -> list[Reply] | TierError:
        if isinstance(call, TierError):
            return call
        try:
            return await self._settle(request, call, until)
        except TierError as error:
            return error

    async def _settle(self, request: Request, call: Sent, until: float) -> list[Reply]:
        """The replies, wherever the node sends us for them."""
        node, waiting = call
        try:
            replies = await waiting
        except UnreachableError:
            self._members.refresh_soon()
            raise
        if (trouble := _trouble(replies)) is None:
            return replies
        return await self._by(until, self._follow(request, node, replies, trouble))

    async def _follow(
        self, request: Request, node: RedisNode, replies: Sequence[Reply], trouble: str
    ) -> list[Reply]:
        for _ in range(_HOPS):
            word, *rest = trouble.split()
            if word != "ASK":
                self._members.refresh_soon()
            if word not in _REDIRECTS or not _all(replies, trouble):
                break
            slot, where = rest[:2]
            if word == "ASK":
                node = self._members.guest(where, node)
                found = (await node.call(*_asking(request)))[1::2]
            else:
                node = self._members.moved(int(slot), where, node)
                found = await node.call(request.data, request.replies)
            if (again := _trouble(found)) is None:
                return found
            replies, trouble = found, again
        raise RefusedError(trouble, remedy="wait; the cluster is changing")

    async def _by(self, until: float, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout_at(until):
                return await work
        except TimeoutError:
            raise DeadlineError(
                f"Redis Cluster: no answer within {1000 * self._deadline_s:.0f} ms",
                remedy="look into the servers' logs and their load",
            ) from None


async def _called(node: RedisNode, data: bytes, replies: int) -> list[Reply]:
    return await node.call(data, replies)


def _trouble(replies: Sequence[Reply]) -> str | None:
    """The first error that is about the cluster."""
    for reply in replies:
        if isinstance(reply, hiredis.ReplyError):
            said = str(reply)
            if said.partition(" ")[0] in _TROUBLES:
                return said
    return None


def _all(replies: Sequence[Reply], trouble: str) -> bool:
    """Whether all commands were redirected alike, so that none was executed."""
    return all(
        isinstance(reply, hiredis.ReplyError) and str(reply) == trouble for reply in replies
    )


def _asking(request: Request) -> tuple[bytes, int]:
    """Its commands, each behind an ASKING, and how many replies they get."""
    reader = hiredis.Reader()
    reader.feed(request.data)
    commands = [cast("list[bytes]", reader.gets()) for _ in range(request.replies)]
    return b"".join(_ASKING + pack(*words) for words in commands), 2 * request.replies
