"""The link to the primary that Sentinels name: asked for at each connect, checked, and watched.

Sentinels are asked all at once; when most of them answered, the youngest configuration counts (its
epoch grows with each failover). Whoever they name must call itself a primary. A connection is
closed, so that its node asks the Sentinels again, when its server turns out to be a replica, and
when the Sentinels name another one: they do so seconds before they demote an old primary that
still lives, and what it is told meanwhile is lost. What it still pushes then is heard by nobody,
because a closed connection reads no more.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import hiredis
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import RedisError

from querycache.clock import Clock
from querycache.errors import TierError
from querycache.tiers.redis.address import Address
from querycache.tiers.redis.clients import Patience, close, failure, open_sentinels
from querycache.tiers.redis.connection import Connection, Limits
from querycache.tiers.redis.endpoint import Endpoint
from querycache.tiers.redis.greeting import pack
from querycache.tiers.redis.link import Greeting, Listener, Reply, Request, UnreachableError
from querycache.tiers.redis.members import apart
from querycache.tiers.redis.node import RedisNode
from querycache.tiers.redis.single import SingleLink

_ANSWER_S = 0.2  # of one Sentinel
_WATCH_S = 0.5
_PATIENCE_S = 0.5  # with a primary that may be frozen, before the Sentinels are asked again


class SentinelLink(SingleLink):
    """A `link.Link` whose one node is wherever the Sentinels say."""

    def __init__(
        self,
        address: Address,
        greeting: Greeting,
        *,
        tls: ssl.SSLContext | None,
        clock: Clock,
        listener: Listener | None,
        limits: Limits,
    ) -> None:
        """For the running loop; to `address.service` at its Sentinels."""
        node = RedisNode(
            self._resolve,
            greeting,
            clock=clock,
            listener=listener,
            accept=self._accept,
            limits=replace(limits, patience_s=min(limits.patience_s, _PATIENCE_S)),
            where=address.where,
        )
        super().__init__(node)
        self._address = address
        self._tls = tls
        self._clock = clock
        self._watcher: asyncio.Task[None] | None = None

    async def close(self) -> None:
        await super().close()  # first: a connection that it makes would be watched
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)

    def call(self, request: Request) -> Awaitable[list[Reply]]:
        connection = self._node.connection
        if connection is None:
            return self._first(request)
        call = connection.call(request.data, request.replies)
        call.add_done_callback(lambda done: _judge(connection, done))
        return call

    async def call_many(self, requests: Sequence[Request]) -> list[list[Reply] | TierError]:
        results = await super().call_many(requests)
        for result in results:
            if not isinstance(result, TierError):
                self._look(result)
        return results

    async def everywhere(self, data: bytes, replies: int = 1) -> list[list[Reply]]:
        results = await super().everywhere(data, replies)
        for result in results:
            self._look(result)
        return results

    async def _resolve(self) -> Endpoint:
        known = self._sentinels()
        try:
            host, port = await primary(self._address, known)
        finally:
            await close(known)
        return Endpoint(host, port, tls=self._tls)

    def _sentinels(self) -> Sentinel:
        patience = Patience(connections=1, connect_s=_ANSWER_S, answer_s=_ANSWER_S, retries=0)
        return open_sentinels(self._address, patience)

    async def _accept(self, connection: Connection) -> None:
        await accept_primary(connection)
        if self._watcher is None or self._watcher.done():
            loop = asyncio.get_running_loop()
            self._watcher = apart(loop, self._watch(), "querycache: Redis Sentinels")

    async def _watch(self) -> None:
        """Leaves a primary when the Sentinels name another one."""
        known = self._sentinels()
        try:
            while True:
                await self._clock.sleep(_WATCH_S)
                connection = self._node.connection
                if connection is None:
                    continue  # its node asks them by itself
                with suppress(TierError):
                    named = Endpoint(*await primary(self._address, known))
                    if named.where != connection.where:
                        _drop(connection)
        finally:
            await close(known)

    async def _first(self, request: Request) -> list[Reply]:
        result = await self._node.call(request.data, request.replies)
        self._look(result)
        return result

    def _look(self, replies: Iterable[Reply]) -> None:
        connection = self._node.connection
        if connection is not None and _demoted(replies):
            _drop(connection)


async def primary(address: Address, known: Sentinel) -> tuple[str, int]:
    """Where most Sentinels say the primary is. Raises `UnreachableError`."""
    return youngest(address, *await _answers(known.sentinels))


async def accept_primary(connection: Connection) -> None:
    """Refuses a server that does not call itself a primary."""
    role = connection.server.get(b"role")
    if role is None:  # it knows no HELLO
        (reply,) = await connection.call(pack("ROLE"))
        role = cast("list[object]", reply)[0] if isinstance(reply, list) else None
    if role != b"master":
        raise UnreachableError(
            f"Error connecting to Redis at {connection.where}: it is no primary any more",
            remedy="wait; the Sentinels name another one",
        )


async def _answers(
    sentinels: Sequence[Any],
) -> tuple[list[Mapping[str, Mapping[str, Any]]], list[Exception]]:
    """What they know of all primaries: of most, or of as many as answer; and why others don't."""
    asked = {asyncio.ensure_future(sentinel.sentinel_masters()) for sentinel in sentinels}
    answers: list[Mapping[str, Mapping[str, Any]]] = []
    errors: list[Exception] = []
    try:
        while asked and len(answers) <= len(sentinels) // 2:
            done, asked = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                try:
                    answers.append(one.result())
                except (RedisError, OSError) as error:
                    errors.append(error)
    finally:
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    return answers, errors


def youngest(
    address: Address,
    answers: Sequence[Mapping[str, Mapping[str, Any]]],
    errors: Sequence[Exception],
) -> tuple[str, int]:
    told = [answer[address.service] for answer in answers if address.service in answer]
    alive = [state for state in told if state["is_master"] and not _down(state)]
    if alive:
        youngest = max(alive, key=lambda state: int(state["config-epoch"]))
        return str(youngest["ip"]), int(youngest["port"])
    if told:
        why, remedy = "they see no living primary", "wait; they choose another one"
    elif answers:
        why, remedy = "they know no such service", "correct the service's name in REDIS_URL"
    else:
        cause = failure(address.where, errors[0])
        why, remedy = f"none of them answers: {cause}", cause.remedy
    raise UnreachableError(f"Error connecting to Redis, {address.where}: {why}", remedy=remedy)


def _down(state: Mapping[str, Any]) -> bool:
    return bool(state["is_sdown"] or state["is_odown"])


def _judge(connection: Connection, done: asyncio.Future[list[Reply]]) -> None:
    if not done.cancelled() and done.exception() is None and _demoted(done.result()):
        _drop(connection)


def _demoted(replies: Iterable[Reply]) -> bool:
    return any(
        isinstance(reply, hiredis.ReplyError) and str(reply).startswith("READONLY")
        for reply in replies
    )


def _drop(connection: Connection) -> None:
    connection.close("it is no primary any more")
