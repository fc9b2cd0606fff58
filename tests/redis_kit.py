"""Real Redis processes for tests: servers, TLS, sentinels, clusters; all are gone at the end.

Everything is on free loopback ports, in memory, in a temporary folder of its own. The processes
belong to no event loop: any loop or thread may use them. TEST_REDIS_SERVER names another program
to test against, such as a valkey-server.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import hiredis

PROGRAM = (
    os.environ.get("TEST_REDIS_SERVER")  # noqa: TID251 -- the tests' own, no setting of querycache
    or shutil.which("redis-server")
    or shutil.which("valkey-server")
    or "redis-server"
)
"""`make test` installs one where there is none."""

MAKE_CERTS = Path(__file__).parents[1] / "deploy" / "redis" / "make-certs.sh"
SLOTS = 16_384

_HOST = "127.0.0.1"
_PATIENCE_S = 10.0
_BUS = 10_000  # a node's cluster bus is at its port plus this
_PORTS = range(10_240, 22_000)
# Below the range that the system gives to connections: while a server is down, none of them can
# take its port, nor can one that looks for it be connected to itself.


def free_port() -> int:
    """One that nobody listens on, nor on the port of its cluster bus."""
    while True:
        port = secrets.choice(_PORTS)
        try:
            for number in (port, port + _BUS):
                with socket.socket() as probe:
                    probe.bind((_HOST, number))
        except OSError:
            continue
        return port


async def until(
    holds: Callable[[], Awaitable[bool]], what: str, patience_s: float = _PATIENCE_S
) -> None:
    """Returns when it holds; fails, naming `what`, if that takes too long."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    while not await holds():
        assert loop.time() < deadline, f"not within {patience_s} s: {what}"
        await asyncio.sleep(0.01)


class RedisServer:
    """One server; `start` after `kill` gives an empty one on the same port."""

    def __init__(self, folder: Path, *options: str) -> None:
        """`options` are lines of configuration as arguments: `--maxmemory 3mb` is two of them."""
        self.folder = folder
        self.port = free_port()
        self.socket = folder / "redis.sock"
        self.log = folder / "server.log"
        self.options = options
        self.environment: dict[str, str] | None = None  # the tests' own
        self.process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> tuple[str, int]:
        return _HOST, self.port

    @property
    def url(self) -> str:
        return f"redis://{_HOST}:{self.port}/0"

    @property
    def password(self) -> str:
        """What `--requirepass` says; "" for none."""
        words = ("", *self.options)
        return words[words.index("--requirepass") + 1] if "--requirepass" in words else ""

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None, "not started"
        return self.process

    def _command(self) -> Sequence[str | Path]:
        return (PROGRAM, *self._arguments())

    def _arguments(self) -> Sequence[str]:
        return (
            *("--bind", _HOST, "--port", str(self.port), "--unixsocket", str(self.socket)),
            *("--save", "", "--appendonly", "no", "--dir", str(self.folder)),
            *("--repl-diskless-sync", "no"),  # the other way, a replica waits up to a second
            *self.options,
        )

    def spawn(self) -> None:
        """Starts the process; it may not answer yet."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command(),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interrupt from the keyboard is for the tests alone
            )
        # Kills it when the end of a pipe that only this process holds is closed, however it ends.
        self._guard = subprocess.Popen(
            ["sh", "-c", 'read _; kill -9 "$0"', str(self.process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    async def start(self) -> None:
        self.spawn()
        await self.answers()

    async def answers(self) -> None:
        """Returns when it takes connections."""

        async def connects() -> bool:
            try:
                _, writer = await asyncio.open_unix_connection(str(self.socket))
            except OSError:
                said = self.log.read_text(encoding="utf-8", errors="replace")
                assert self._running.poll() is None, f"it did not start:\n{said}"
                return False
            writer.close()
            await writer.wait_closed()
            return True

        await until(connects, f"{PROGRAM} answers")

    async def ask(self, *words: str | bytes | int) -> Any:  # noqa: ANN401 -- many shapes
        """The reply to one command (RESP2, always over the socket); an error is raised."""
        reader, writer = await asyncio.open_unix_connection(str(self.socket))
        try:
            login = ("AUTH", self.password) if self.password else ("PING",)
            writer.write(_packed(login) + _packed(words))
            parser, replies = hiredis.Reader(), list[Any]()
            while len(replies) < 2:
                data = await reader.read(65_536)
                assert data, "closed instead of answering"
                parser.feed(data)
                while (reply := parser.gets()) is not False:
                    replies.append(reply)
        finally:
            writer.close()
        if isinstance(replies[1], Exception):
            raise replies[1]
        return replies[1]

    async def info(self, section: str) -> dict[str, str]:
        """INFO, as its lines say."""
        return _fields(await self.ask("INFO", section))

    def stop(self) -> None:
        """kill -9; what it held is gone."""
        for process in (self._guard, self.process):
            if process is not None:
                process.kill()
                process.wait()
                if process.stdin is not None:
                    process.stdin.close()
        self.process = self._guard = None
        for left in (self.socket, self.folder / "dump.rdb"):
            left.unlink(missing_ok=True)

    async def kill(self) -> None:
        self.stop()

    async def restart(self) -> None:
        self.stop()
        await self.start()

    def freeze(self) -> None:
        """Stops it without closing anything, until `thaw`."""
        self._running.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._running.send_signal(signal.SIGCONT)


def _packed(words: Iterable[str | bytes | int]) -> bytes:
    encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in encoded)


def _fields(text: bytes) -> dict[str, str]:
    lines = [line.partition(":") for line in text.decode().splitlines()]
    return {name: value for name, colon, value in lines if colon}


@asynccontextmanager
async def _folder() -> AsyncGenerator[Path]:
    with tempfile.TemporaryDirectory(prefix="qc-redis-") as folder:  # short, for sockets' paths
        yield Path(folder)


@asynccontextmanager
async def running(servers: Sequence[RedisServer]) -> AsyncGenerator[None]:
    """Starts them at once, and stops them."""
    try:
        for server in servers:
            server.spawn()
        for server in servers:
            await server.answers()
        yield
    finally:
        for server in servers:
            server.stop()


@asynccontextmanager
async def redis_server(*options: str) -> AsyncGenerator[RedisServer]:
    """A running server, in a folder of its own."""
    async with _folder() as folder:
        server = RedisServer(folder, *options)
        async with running([server]):
            yield server


class Certificates(NamedTuple):
    """Files that deploy/redis/make-certs.sh writes."""

    ca: Path
    cert: Path
    key: Path
    client_cert: Path
    client_key: Path

    @classmethod
    def make(cls, folder: Path, *names: str) -> Certificates:
        """For localhost, 127.0.0.1 and `names`."""
        subprocess.run([MAKE_CERTS, folder, *names], check=True, capture_output=True)
        files = ("ca.crt", "redis.crt", "redis.key", "client.crt", "client.key")
        return cls(*(folder / name for name in files))


class TlsServer(RedisServer):
    """One that speaks TLS on its port (and plainly on its socket)."""

    def __init__(self, folder: Path, certificates: Certificates, *options: str) -> None:
        super().__init__(folder, *options)
        self.certificates = certificates

    @property
    def url(self) -> str:
        return f"rediss://{_HOST}:{self.port}/0"

    def _arguments(self) -> Sequence[str]:
        files = self.certificates
        return (
            *super()._arguments(),
            *("--port", "0", "--tls-port", str(self.port), "--tls-ca-cert-file", str(files.ca)),
            *("--tls-cert-file", str(files.cert), "--tls-key-file", str(files.key)),
        )


@asynccontextmanager
async def tls_server(*options: str) -> AsyncGenerator[TlsServer]:
    """Asks clients for a certificate, unless `--tls-auth-clients` says `no` or `optional`."""
    async with _folder() as folder:
        server = TlsServer(folder, Certificates.make(folder / "tls"), *options)
        async with running([server]):
            yield server


class Sentinel(RedisServer):
    """Keeps what it knows in a file: `start` after `kill` goes on where it was."""

    @property
    def _file(self) -> Path:
        return self.folder / "sentinel.conf"

    def configure(self, lines: Iterable[str]) -> None:
        own = (f"bind {_HOST}", f"port {self.port}", f"unixsocket {self.socket}")
        self._file.write_text("\n".join((*own, f"dir {self.folder}", *lines, "")))

    def _arguments(self) -> Sequence[str]:
        return (str(self._file), "--sentinel")

    async def primary_port(self, name: str) -> int:
        return int((await self.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name))[1])


class Sentinels:
    """A primary, its replicas, and three sentinels that call it dead after a second.

    Attributes:
        name: What the sentinels call it.
        servers: The first is the primary at the start.
    """

    name = "cache"

    def __init__(self, servers: Sequence[RedisServer], sentinels: Sequence[Sentinel]) -> None:
        self.servers = servers
        self.sentinels = sentinels

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [sentinel.address for sentinel in self.sentinels]

    def configure(self) -> None:
        """Tells all of all, so that nobody has to be discovered, which takes seconds."""
        primary, *replicas = self.servers
        ids = {sentinel.port: secrets.token_hex(20) for sentinel in self.sentinels}
        for sentinel in self.sentinels:
            others = [port for port in ids if port != sentinel.port]
            say = f"sentinel {{}} {self.name} ".format
            sentinel.configure(
                [
                    f"sentinel myid {ids[sentinel.port]}",
                    say("monitor") + f"{_HOST} {primary.port} {len(ids) // 2 + 1}",
                    say("down-after-milliseconds") + "1000",
                    say("failover-timeout") + "3000",
                    *([say("auth-pass") + primary.password] if primary.password else []),
                    *(say("known-replica") + f"{_HOST} {server.port}" for server in replicas),
                    *(say("known-sentinel") + f"{_HOST} {port} {ids[port]}" for port in others),
                ]
            )

    async def ready(self) -> None:
        """Each sentinel could carry out a failover."""
        for sentinel in self.sentinels:
            # A loaded machine is no reason to sit still for half a minute.
            await sentinel.ask("SENTINEL", "DEBUG", "tilt-trigger", 60_000)

            async def sees(sentinel: Sentinel = sentinel) -> bool:
                found = await sentinel.ask("SENTINEL", "REPLICAS", self.name)
                up = [row for row in found if b"ok" in row]  # master-link-status
                try:
                    await sentinel.ask("SENTINEL", "CKQUORUM", self.name)
                except hiredis.ReplyError:
                    return False
                return len(up) == len(self.servers) - 1

            await until(sees, "the sentinels see all")

    async def primary(self) -> RedisServer:
        """The server that all living sentinels name and that says so itself; waits for that."""
        found: list[RedisServer] = []

        async def agreed() -> bool:
            living = [each for each in self.sentinels if each.process is not None]
            ports = {await sentinel.primary_port(self.name) for sentinel in living}
            found[:] = [each for each in self.servers if ports == {each.port} and each.process]
            return bool(found) and (await found[0].info("replication"))["role"] == "master"

        await until(agreed, "the sentinels agree on a primary that lives", 20)
        return found[0]

    async def failover(self) -> RedisServer:
        """Asks for another primary, while all live; the new one."""
        old = await self.primary()
        await self.sentinels[0].ask("SENTINEL", "FAILOVER", self.name)

        async def moved() -> bool:
            return await self.sentinels[0].primary_port(self.name) != old.port

        await until(moved, "another primary")
        return await self.primary()


def _followed(primary: RedisServer, replicas: int) -> Callable[[], Awaitable[bool]]:
    """Whether the primary sends that many what it writes."""

    async def followed() -> bool:
        said = await primary.info("replication")
        return sum("state=online" in value for value in said.values()) == replicas

    return followed


@asynccontextmanager
async def sentinels(*options: str, replicas: int = 1) -> AsyncGenerator[Sentinels]:
    """`options` are of the servers; a password wants `--requirepass` and `--masterauth`."""
    async with _folder() as folder, AsyncExitStack() as stack:

        def inside(name: str) -> Path:
            (folder / name).mkdir()
            return folder / name

        primary = RedisServer(inside("0"), *options)
        follow = ("--replicaof", f"{_HOST} {primary.port}", *options)
        servers = [primary, *(RedisServer(inside(f"{n + 1}"), *follow) for n in range(replicas))]
        group = Sentinels(servers, [Sentinel(inside(f"s{number}")) for number in range(3)])
        group.configure()
        await stack.enter_async_context(running(servers))
        await until(_followed(primary, replicas), "the replicas are in step")
        await stack.enter_async_context(running(group.sentinels))
        await group.ready()
        yield group


class ClusterNode(RedisServer):
    """Keeps its place in the cluster, not its data: `start` after `kill` joins again."""

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder, *options)
        self.id = secrets.token_hex(20)

    def _arguments(self) -> Sequence[str]:
        cluster = ("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf")
        return (*cluster, "--cluster-node-timeout", "1000", *super()._arguments())


class Cluster:
    """Masters with equal shares of the slots, and for each as many replicas."""

    def __init__(self, masters: Sequence[ClusterNode], replicas: Sequence[ClusterNode]) -> None:
        self.masters = masters
        self.nodes = [*masters, *replicas]
        self._replicas = replicas

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [node.address for node in self.nodes]

    def configure(self) -> None:
        """Tells all of all, as if they had met before."""
        count = len(self.masters)
        for node in self.nodes:
            lines = [f"vars currentEpoch {count} lastVoteEpoch 0\n"]
            for number, other in enumerate(self.nodes):
                master = number % count
                share = f" {SLOTS * master // count}-{SLOTS * (master + 1) // count - 1}"
                role, of, slots = ("master", "-", share)
                if number >= count:
                    role, of, slots = ("slave", self.masters[master].id, "")
                flags = f"myself,{role}" if other is node else role
                where = f"{_HOST}:{other.port}@{other.port + _BUS}"
                lines.insert(
                    -1, f"{other.id} {where} {flags} {of} 0 0 {master + 1} connected{slots}\n"
                )
            (node.folder / "nodes.conf").write_text("".join(lines))

    async def ready(self) -> None:
        """All living nodes say that the cluster is whole; Redis lets two seconds pass first."""
        for node in self.nodes:

            async def whole(node: RedisServer = node) -> bool:
                said = _fields(await node.ask("CLUSTER", "INFO"))
                return said["cluster_state"] == "ok" and said["cluster_slots_ok"] == str(SLOTS)

            if node.process is not None:
                await until(whole, f"the cluster is whole for {node.port}")
        for number, replica in enumerate(self._replicas):
            pair = [self.masters[number % len(self.masters)], replica]
            if all(node.process is not None for node in pair):
                first = pair[0] if await self._leads(pair[0]) else pair[1]
                await until(_followed(first, 1), "the replicas are in step")

    async def _leads(self, node: RedisServer) -> bool:
        return (await node.info("replication"))["role"] == "master"

    async def owner(self, slot: int) -> ClusterNode:
        """The node that says itself that the slot is its own."""
        for node in self.nodes:
            if node.process is None:
                continue
            lines: list[str] = (await node.ask("CLUSTER", "NODES")).decode().splitlines()
            own = next(line.split() for line in lines if "myself" in line)
            for piece in own[8:]:
                first, _, last = piece.partition("-")
                if not piece.startswith("[") and int(first) <= slot <= int(last or first):
                    return node
        raise AssertionError(f"nobody owns slot {slot}")

    @asynccontextmanager
    async def moving(self, slot: int, to: ClusterNode) -> AsyncGenerator[ClusterNode]:
        """Inside, the slot is half-way: its owner (which is given) sends clients on with ASK for
        names that it does not hold; at the end all names follow, and everybody is told.
        """
        old = await self.owner(slot)
        await to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", old.id)
        await old.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id)
        yield old
        login = ("AUTH", old.password) if old.password else ()
        while names := await old.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
            await old.ask("MIGRATE", *to.address, "", 0, 5000, *login, "KEYS", *names)
        for node in (to, *self.nodes):
            if node.process is not None and await self._leads(node):
                await node.ask("CLUSTER", "SETSLOT", slot, "NODE", to.id)

    async def reshard(self, slots: Iterable[int], to: ClusterNode) -> None:
        """Moves slots with all that they hold, while clients go on."""
        for slot in slots:
            async with self.moving(slot, to):
                pass


@asynccontextmanager
async def cluster(*options: str, masters: int = 3, replicas: int = 0) -> AsyncGenerator[Cluster]:
    """`replicas` for each of the masters."""
    async with _folder() as folder:
        nodes: list[ClusterNode] = []
        for number in range(masters * (1 + replicas)):
            (folder / str(number)).mkdir()
            nodes.append(ClusterNode(folder / str(number), *options))
        group = Cluster(nodes[:masters], nodes[masters:])
        group.configure()
        async with running(nodes):
            await group.ready()
            yield group
