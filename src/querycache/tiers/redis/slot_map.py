"""Which primary of a cluster holds which slots: asked of several nodes, decided by most."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import replace
from typing import cast

import hiredis

from querycache.errors import TierError
from querycache.tiers.redis.connection import Connection, Limits
from querycache.tiers.redis.endpoint import Endpoint
from querycache.tiers.redis.greeting import connect, pack
from querycache.tiers.redis.link import Greeting, RefusedError, Reply, UnreachableError
from querycache.tiers.redis.node import RedisNode

Primary = tuple[str, int]
"""Host and port, as the cluster names them."""

SlotMap = tuple[tuple[int, int, Primary], ...]
"""First and last slot of each range, and who holds it; in the order of the slots."""

_QUESTION = pack("CLUSTER", "SLOTS")
_GRACE_S = 0.05  # for others, when one has answered


async def ask_for_map(
    living: Iterable[RedisNode],
    elsewhere: Sequence[Endpoint],
    greeting: Greeting,
    limits: Limits,
) -> SlotMap:
    """Asks the nodes that are connected; where none answers, all the others, over connections of
    their own. Raises `TierError` of one where none does.
    """
    try:
        return await most([_of_node(node) for node in living])
    except TierError:
        bare = Greeting(user=greeting.user, password=greeting.password, name=greeting.name)
        soon = replace(limits, patience_s=limits.deadline_s)
        return await most([_of_stranger(endpoint, bare, soon) for endpoint in elsewhere])


async def most(questions: Sequence[Awaitable[SlotMap]]) -> SlotMap:
    """What most say, of those who answer first or soon after."""
    waiting = {asyncio.ensure_future(question) for question in questions}
    votes: Counter[SlotMap] = Counter()
    error: TierError = UnreachableError("Redis Cluster: there is nobody to ask for its slots")
    try:
        while waiting:
            grace = _GRACE_S if votes else None
            done, waiting = await asyncio.wait(
                waiting, timeout=grace, return_when=asyncio.FIRST_COMPLETED
            )
            for one in done:
                try:
                    votes[one.result()] += 1
                except TierError as why:
                    error = why
            if not done:
                break
    finally:
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    if not votes:
        raise error
    return votes.most_common(1)[0][0]


async def _of_node(node: RedisNode) -> SlotMap:
    (reply,) = await node.call(_QUESTION)
    return read(reply, node.where)


async def _of_stranger(endpoint: Endpoint, greeting: Greeting, limits: Limits) -> SlotMap:
    connection = await connect(endpoint, greeting, _Nobody(), limits)
    try:
        (reply,) = await connection.call(_QUESTION)
    finally:
        connection.close()
    return read(reply, endpoint.where)


def read(reply: Reply, where: str) -> SlotMap:
    if isinstance(reply, hiredis.ReplyError):
        if "cluster support disabled" in str(reply):
            raise UnreachableError(
                f"Error connecting to Redis Cluster at {where}: it is a server of no cluster",
                remedy="use redis:// instead of redis+cluster:// in REDIS_URL",
            )
        raise RefusedError(str(reply))
    rows = cast("list[list[object]]", reply)
    if not rows:
        raise UnreachableError(f"Redis Cluster at {where}: it serves no slots yet")
    host, _, _ = where.rpartition(":")
    return tuple(sorted(_range(row, host.strip("[]")) for row in rows))


def _range(row: list[object], asked: str) -> tuple[int, int, Primary]:
    """A node that does not know its own host is at the one that we asked."""
    first, last, primary = row[:3]
    host, port = cast("list[object]", primary)[:2]
    name = host.decode() if isinstance(host, bytes) else ""
    return cast("int", first), cast("int", last), (name or asked, cast("int", port))


class _Nobody:
    """Owns a connection that asks one question."""

    def heard(self, push: list[object]) -> None:
        pass

    def late(self, count: int) -> None:
        pass

    def lost(self, connection: Connection, error: UnreachableError) -> None:
        pass
