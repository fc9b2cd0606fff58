"""The primaries of a cluster, as one event loop reaches them, and which slots each of them holds.

The map of slots is asked for anew, at most once a second, when somebody has reason to, when a node
is lost, as long as one that the map names can't be reached, and every other second in any case:
who is served from L1 meets no redirection. A primary that a new map does not name is closed, and
its listener told that its channel is gone for good; one that is new is connected to at once, so
that it is heard, and what it changed until then was missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import replace

from querycache.clock import Clock
from querycache.errors import TierError
from querycache.tiers.redis.connection import Limits
from querycache.tiers.redis.endpoint import Endpoint
from querycache.tiers.redis.link import Greeting, Listener, UnreachableError
from querycache.tiers.redis.names import SLOTS
from querycache.tiers.redis.node import RedisNode, fixed
from querycache.tiers.redis.slot_map import Primary, SlotMap, ask_for_map

_REFRESH_S = 1.0  # between two questions for the map
_WATCH_S = 2.0  # between two for which nobody has a reason
_GUEST_S = 5.0  # how long a node lives that only a redirection named


class Members:
    """The primaries; for the running loop."""

    def __init__(
        self,
        seeds: Sequence[Endpoint],
        greeting: Greeting,
        *,
        clock: Clock,
        listener: Listener | None,
        limits: Limits,
    ) -> None:
        """`seeds` are some nodes of the cluster; all are reached alike."""
        self._seeds = seeds
        self._greeting = greeting
        self._clock = clock
        self._listener = listener
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._owners: list[RedisNode | None] = [None] * SLOTS
        self._nodes: dict[Primary, tuple[RedisNode, _Ear]] = {}
        self._guests: dict[Primary, float] = {}  # since when, by the loop's time
        self._error: TierError | None = None  # of the last question for the map
        self._mapped = False
        self._tried = asyncio.Event()
        self._wanted = asyncio.Event()
        self._due = clock.monotonic()
        self._keeper: asyncio.Task[None] | None = None
        self._closed = False

    def primaries(self) -> list[RedisNode]:
        """Those that the map names."""
        return [node for name, (node, _) in self._nodes.items() if name not in self._guests]

    def all(self) -> list[RedisNode]:
        """Those, and the ones that only a redirection named."""
        return [node for node, _ in self._nodes.values()]

    def holder(self, slot: int) -> RedisNode | None:
        """Who holds the slot, as far as is known."""
        return self._owners[slot]

    def owner(self, slot: int) -> RedisNode:
        """Who holds the slot. Raises `UnreachableError` where nobody is known to."""
        if (node := self._owners[slot]) is not None:
            return node
        self.refresh_soon()
        why = f" ({self._error})" if self._error else ""
        raise UnreachableError(f"Redis Cluster: nobody is known to serve slot {slot}{why}")

    async def known(self) -> None:
        """Returns when there is a map. Raises why there is none; at once where that is known."""
        if self._mapped:
            return
        if self._closed:
            raise UnreachableError("Redis Cluster: closed here", code="closed")
        failed = self._error
        self.refresh_soon()
        if failed is None:
            await self._tried.wait()
            failed = self._error
        if failed is not None and not self._mapped:
            code = failed.code if isinstance(failed, UnreachableError) else "slow"
            raise UnreachableError(str(failed), remedy=failed.remedy, code=code)

    def moved(self, slot: int, where: str, teller: RedisNode) -> RedisNode:
        """Believes `teller` that the slot is at `where` from now on."""
        name = self._named(where, teller)
        target = self._join(name)
        if name in self._guests:
            del self._guests[name]
        self._owners[slot] = target
        return target

    def guest(self, where: str, teller: RedisNode) -> RedisNode:
        """The node at `where`, which need not hold any slot yet."""
        name = self._named(where, teller)
        if name not in self._nodes or name in self._guests:
            self._guests[name] = self._loop.time()
        return self._join(name)

    def refresh_soon(self) -> None:
        """Asks for the map as soon as that is allowed."""
        self._wanted.set()
        if self._closed or not (self._keeper is None or self._keeper.done()):
            return
        self._tried.clear()
        self._keeper = apart(self._loop, self._keep(), "querycache: Redis Cluster")

    async def close(self) -> None:
        """Ends all. May be called twice."""
        self._closed = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await asyncio.gather(*(self._leave(name) for name in list(self._nodes)))
        self._owners = [None] * SLOTS
        self._mapped = False

    # --- the map -------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Asks for the map again and again; seldom while all that it names can be reached."""
        while True:
            await self._clock.sleep(max(0.0, self._due - self._clock.monotonic()))
            self._wanted.clear()
            self._due = self._clock.monotonic() + _REFRESH_S
            gone = await self._refresh()
            self._tried.set()  # whoever waits may go on with the nodes that answer
            await asyncio.gather(
                *(self._leave(name) for name in gone),
                *(node.reach() for node in self.primaries() if node.connection is None),
                return_exceptions=True,
            )
            if self._error is None and all(node.connection for node in self.primaries()):
                with suppress(TimeoutError):
                    async with asyncio.timeout(_WATCH_S):
                        await self._wanted.wait()

    async def _refresh(self) -> set[Primary]:
        """Asks once; who has left."""
        living = [node for node in self.all() if node.connection is not None]
        elsewhere = dict.fromkeys((*self._seeds, *map(self._endpoint, self._nodes)))
        try:
            found = await ask_for_map(living, list(elsewhere), self._greeting, self._limits)
        except TierError as error:
            self._error = error
            return set()
        gone = self._adopt(found)
        self._error, self._mapped = None, True
        return gone

    def _adopt(self, found: SlotMap) -> set[Primary]:
        now = self._loop.time()
        named = {name for _, _, name in found}
        self._guests = {
            name: since
            for name, since in self._guests.items()
            if name not in named and now - since < _GUEST_S
        }
        owners: list[RedisNode | None] = [None] * SLOTS
        for first, last, name in found:
            owners[first : last + 1] = [self._join(name)] * (last + 1 - first)
        self._owners = owners
        return self._nodes.keys() - named - self._guests.keys()

    # --- the nodes -----------------------------------------------------------------------------

    def _endpoint(self, name: Primary) -> Endpoint:
        return replace(self._seeds[0], host=name[0], port=name[1])

    def _named(self, where: str, teller: RedisNode) -> Primary:
        """What a redirection names; without a host, it is that of who says so."""
        host, _, port = where.rpartition(":")
        return host.strip("[]") or teller.where.rpartition(":")[0].strip("[]"), int(port)

    def _join(self, name: Primary) -> RedisNode:
        if name not in self._nodes:
            endpoint = self._endpoint(name)
            ear = _Ear(self._listener, self.refresh_soon, late=self._mapped)
            node = RedisNode(
                fixed(endpoint),
                self._greeting,
                clock=self._clock,
                listener=ear,
                limits=self._limits,
                where=endpoint.where,
            )
            self._nodes[name] = node, ear
        return self._nodes[name][0]

    async def _leave(self, name: Primary) -> None:
        node, ear = self._nodes.pop(name)
        await node.close()
        ear.end()


class _Ear:
    """Between a node and who listens: a channel that was lost is gone when its node is, and what
    a node changed before it was known as one is missed.
    """

    def __init__(self, listener: Listener | None, lost: Callable[[], None], *, late: bool) -> None:
        """`late`: others may have written to the node while it was not heard."""
        self._late = late
        self._listener = listener
        self._lost = lost
        self._missing: object = None

    def joined(self, channel: object, *, late: bool = False) -> None:
        self._missing = None
        if self._listener is not None:
            self._listener.joined(channel, late=late or self._late)
        self._late = False

    def left(self, channel: object, *, gone: bool) -> None:
        self._missing = None if gone else channel
        if self._listener is not None:
            self._listener.left(channel, gone=gone)
        if not gone:
            self._lost()

    def heard(self, push: list[object]) -> None:
        if self._listener is not None:
            self._listener.heard(push)

    def end(self) -> None:
        """Its node has left the cluster."""
        if self._missing is not None:
            self.left(self._missing, gone=True)


def apart(
    loop: asyncio.AbstractEventLoop, work: Coroutine[None, None, None], name: str
) -> asyncio.Task[None]:
    """A task in a context of its own: not the first caller's."""
    task = loop.create_task(work, name=name, context=Context())
    # a loop that is closed without cancelling its tasks is no fault of ours to report
    task._log_destroy_pending = False  # pyright: ignore[reportAttributeAccessIssue]  # noqa: SLF001
    return task
