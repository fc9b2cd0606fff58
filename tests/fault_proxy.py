"""A proxy with faults between a client and a server, in the test's own event loop or in a process.

Bytes that come in are queued with the time when they are due, and leave in order: delay is
latency, no cap on throughput. `FaultProxy` belongs to the running loop; where a test freezes that
loop, `proxy_process` gives the same proxy in a process of its own, steered through a pipe.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import subprocess
import sys
from collections import deque
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

Target = tuple[str, int] | Path
"""A TCP address, or a unix socket."""

_HIGH_WATER = 4 * 1024 * 1024  # bytes that wait in one direction before its sender has to


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, for connections that are open and those to come.

    Attributes:
        delay: Seconds that a reply is late.
        jitter: Seconds; up to so much is added to the delay of each piece.
        flip: Chance of a piece of a reply to have one bit changed.
        reset_after: Bytes of replies after which a connection is reset, counted from its start.
        lose_replies: What the server says is dropped.
        hold_replies: What the server says waits until this ends.
        silent: Nothing passes in either direction, not even an end, until this is over; a
            connection that is made meanwhile is accepted.
        refuse: Connections that are made are reset at once.
    """

    delay: float = 0.0
    jitter: float = 0.0
    flip: float = 0.0
    reset_after: int | None = None
    lose_replies: bool = False
    hold_replies: bool = False
    silent: bool = False
    refuse: bool = False


class _End(asyncio.Protocol):
    """One end of a connection: what it receives is on its way to the other end."""

    def __init__(self, proxy: FaultProxy, *, replies: bool) -> None:
        self.proxy = proxy
        self.replies = replies
        self.transport: asyncio.Transport | None = None
        self.other: _End | None = None
        self._due: deque[tuple[float, bytes]] = deque()  # b"": the end
        self._waiting = 0
        self._passed = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.proxy.made(self)

    def data_received(self, data: bytes) -> None:
        faults = self.proxy.faults
        late = faults.delay + self.proxy.random.random() * faults.jitter if self.replies else 0.0
        self._due.append((asyncio.get_running_loop().time() + late, data))
        self._waiting += len(data)
        if self._waiting > _HIGH_WATER and self.transport is not None:
            self.transport.pause_reading()
        self.pump()

    def eof_received(self) -> bool:
        self._end()
        return True  # it is closed when what is due has left

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's shape
        self.transport = None
        self._end()

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def close(self, *, reset: bool = False) -> None:
        """Nothing that waits is passed on."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self.transport is None:
            return
        if not reset:
            self.transport.close()
            return
        raw: socket.socket = self.transport.get_extra_info("socket")
        if raw.family != socket.AF_UNIX:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _end(self) -> None:
        last = self._due[-1][0] if self._due else 0.0
        self._due.append((last, b""))
        self.pump()

    def pump(self) -> None:
        """Passes on what is due, and comes back for the rest."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        faults = self.proxy.faults
        held = faults.silent or (faults.hold_replies and self.replies)
        while self._due and not held and self.other is not None:
            when, piece = self._due[0]
            if when > loop.time():
                self._timer = loop.call_at(when, self.pump)
                return
            self._due.popleft()
            self._waiting -= len(piece)
            if self._waiting <= _HIGH_WATER and self.transport is not None:
                self.transport.resume_reading()
            self._pass(piece)

    def _pass(self, piece: bytes) -> None:
        to = self.other.transport if self.other is not None else None
        faults = self.proxy.faults
        if self.other is None or to is None or not piece:
            self.proxy.ended(self)
        elif not self.replies:
            to.write(piece)
        elif not faults.lose_replies:
            self._passed += len(piece)
            if faults.reset_after is not None and self._passed > faults.reset_after:
                to.write(piece[: max(0, len(piece) - (self._passed - faults.reset_after))])
                self.other.close(reset=True)
            else:
                to.write(self.proxy.flipped(piece))


class FaultProxy:
    """Listens on a loopback port and passes everything on to a server, with faults.

    Attributes:
        port: Where it listens.
        faults: What goes wrong now; changed by `set`.
        connections: How many were made through it so far.
    """

    def __init__(self, target: Target, *, seed: int = 0) -> None:
        self.target = target
        self.faults = Faults()
        self.port = 0
        self.connections = 0
        self.random = random.Random(seed)  # noqa: S311 -- faults keep no secret
        self._ends: set[_End] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """On a free port at first, on the same one after a `stop`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _End(self, replies=False), "127.0.0.1", self.port, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Closes the port and resets all connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for dial in list(self._dials):
            dial.cancel()
        self.cut()
        await asyncio.gather(*self._dials, asyncio.sleep(0), return_exceptions=True)

    def set(self, **faults: Any) -> None:  # noqa: ANN401 -- the fields of Faults
        """Changes some faults and leaves the others."""
        self.faults = replace(self.faults, **faults)
        for end in list(self._ends):
            end.pump()

    def heal(self) -> None:
        """Ends all faults; what was held back passes."""
        self.set(**asdict(Faults()))

    def cut(self) -> int:
        """Resets all connections; how many there were."""
        clients = [end for end in self._ends if not end.replies]
        for end in list(self._ends):
            self._ends.discard(end)
            end.close(reset=True)
        return len(clients)

    def made(self, end: _End) -> None:
        """A client has connected, or the server for one."""
        if self.faults.refuse and not end.replies:
            end.close(reset=True)
            return
        self._ends.add(end)
        if not end.replies:
            self.connections += 1
            dial = asyncio.get_running_loop().create_task(self._dial(end))
            self._dials.add(dial)
            dial.add_done_callback(self._dials.discard)

    async def _dial(self, client: _End) -> None:
        loop = asyncio.get_running_loop()
        server = _End(self, replies=True)
        try:
            if isinstance(self.target, Path):
                await loop.create_unix_connection(lambda: server, str(self.target))
            else:
                await loop.create_connection(lambda: server, *self.target)
        except OSError:
            self.ended(client, reset=True)
            return
        client.other, server.other = server, client
        client.pump()
        server.pump()

    def ended(self, end: _End, *, reset: bool = False) -> None:
        """One side is done: so is the other."""
        for each in (end, end.other):
            if each is not None and each in self._ends:
                self._ends.discard(each)
                each.close(reset=reset)

    def flipped(self, piece: bytes) -> bytes:
        if not self.faults.flip or self.random.random() >= self.faults.flip:
            return piece
        changed = bytearray(piece)
        changed[self.random.randrange(len(piece))] ^= 1 << self.random.randrange(8)
        return bytes(changed)


@asynccontextmanager
async def fault_proxy(target: Target, *, seed: int = 0) -> AsyncGenerator[FaultProxy]:
    """A running one."""
    proxy = FaultProxy(target, seed=seed)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()


class ProxyProcess:
    """A `FaultProxy` in a process of its own. Its methods block for a moment, and no longer."""

    def __init__(self, target: Target, *, seed: int = 0) -> None:
        where = [str(target)] if isinstance(target, Path) else [target[0], str(target[1])]
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(seed), *where],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.port = self._say({})["port"]

    def _say(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "error" not in answer, answer
        return answer

    @property
    def connections(self) -> int:
        return self._say({})["connections"]

    def set(self, **faults: Any) -> None:  # noqa: ANN401 -- the fields of Faults
        self._say({"set": faults})

    def heal(self) -> None:
        self.set(**asdict(Faults()))

    def cut(self) -> int:
        return self._say({"cut": True})["cut"]

    def close(self) -> None:
        """It ends when its standard input does, also when we are killed."""
        self._process.communicate()


@contextmanager
def proxy_process(target: Target, *, seed: int = 0) -> Generator[ProxyProcess]:
    """A running one."""
    proxy = ProxyProcess(target, seed=seed)
    try:
        yield proxy
    finally:
        proxy.close()


async def _obey(target: Target, seed: int) -> None:
    """Reads an order a line from standard input, and answers each with a line."""
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    async with fault_proxy(target, seed=seed) as proxy:
        while line := await orders.readline():
            order = json.loads(line)
            answer: dict[str, object] = {}
            try:
                proxy.set(**order.get("set", {}))
            except TypeError as error:
                answer["error"] = str(error)
            if order.get("cut"):
                answer["cut"] = proxy.cut()
            answer |= {"port": proxy.port, "connections": proxy.connections}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    _seed, *_where = sys.argv[1:]
    asyncio.run(
        _obey((_where[0], int(_where[1])) if len(_where) == 2 else Path(_where[0]), int(_seed))
    )
