"""The link to one server, which holds every name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

from querycache.errors import TierError
from querycache.ports.tiers import Pool
from querycache.tiers.redis.connection import Connection
from querycache.tiers.redis.link import DeadlineError, Node, Reply, Request
from querycache.tiers.redis.node import RedisNode


class SingleLink:
    """A `link.Link` of one node."""

    def __init__(self, node: RedisNode) -> None:
        self._node = node

    def call(self, request: Request) -> Awaitable[list[Reply]]:
        """Raises UnreachableError at once where the server is known to be down."""
        connection = self._node.connection
        if connection is None:
            return self._node.call(request.data, request.replies)
        return connection.call(request.data, request.replies)

    async def call_many(self, requests: Sequence[Request]) -> list[list[Reply] | TierError]:
        node = self._node
        if node.connection is not None:
            return await send_all(node.connection, requests)
        ends = asyncio.get_running_loop().time() + node.limits.deadline_s
        try:
            connection = await node.reach()
            async with asyncio.timeout_at(ends):
                return await send_all(connection, requests)
        except TimeoutError:
            late = DeadlineError(f"Redis at {node.where} did not answer in time")
            return [late] * len(requests)
        except TierError as error:
            return [error] * len(requests)

    async def everywhere(self, data: bytes, replies: int = 1) -> list[list[Reply]]:
        return [await self._node.call(data, replies)]

    def nodes(self) -> list[Node]:
        return [self._node]

    def pool(self) -> Pool:
        return self._node.pool()

    async def close(self) -> None:
        await self._node.close()


async def send_all(
    connection: Connection, requests: Sequence[Request]
) -> list[list[Reply] | TierError]:
    """Sends all in one write; the replies of each, or why there are none."""
    calls: list[asyncio.Future[list[Reply]] | TierError] = []
    for request in requests:
        try:
            calls.append(connection.call(request.data, request.replies))
        except TierError as error:
            calls.append(error)
    try:
        return [call if isinstance(call, TierError) else await _settled(call) for call in calls]
    finally:
        for call in calls:
            if isinstance(call, asyncio.Future):
                call.cancel()  # does nothing unless who waits here was cancelled


async def _settled(call: asyncio.Future[list[Reply]]) -> list[Reply] | TierError:
    try:
        return await call
    except TierError as error:
        return error
