"""The servers that other tests are run against: whole when given, gone at the end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import hiredis
import pytest
from tests.redis_kit import (
    SLOTS,
    Certificates,
    RedisServer,
    TlsServer,
    cluster,
    redis_server,
    sentinels,
    tls_server,
    until,
)

pytestmark = [pytest.mark.asyncio, pytest.mark.live]


def alive(pid: int) -> bool:
    """Whether it runs, or is stopped; one that waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        pass
    try:
        os.kill(pid, 0)  # where there is no /proc
    except ProcessLookupError:
        return False
    return not Path("/proc/self").exists()


def pids(*servers: RedisServer) -> list[int]:
    return [server.process.pid for server in servers if server.process is not None]


async def test_a_server_forgets_when_it_is_killed_and_only_waits_when_frozen():
    async with redis_server("--maxmemory", "5mb", "--requirepass", 'it\'s \\ "odd"') as server:
        assert await server.ask("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"5242880"]
        await server.ask("SET", "name", "value")
        server.freeze()
        asked = asyncio.ensure_future(server.ask("GET", "name"))
        assert not (await asyncio.wait([asked], timeout=0.1))[0]
        server.thaw()
        assert await asked == b"value"
        port = server.port
        await server.restart()
        assert server.port == port
        assert await server.ask("GET", "name") is None
        with pytest.raises(hiredis.ReplyError, match="unknown command"):
            await server.ask("NONSENSE")


async def test_a_server_that_does_not_start_says_why():
    with pytest.raises(AssertionError, match="nonsense"):
        async with redis_server("--nonsense", "1"):
            pass


@pytest.mark.parametrize("frozen", [False, True])
async def test_a_server_is_gone_at_the_end(*, frozen: bool):
    async with redis_server() as server:
        (pid,) = pids(server)
        folder = server.folder
        if frozen:
            server.freeze()
    assert not alive(pid)
    assert not folder.exists()


STARTER = """
import asyncio
from tests.redis_kit import redis_server

async def main():
    async with redis_server() as server:
        print(server.process.pid, server.folder, flush=True)
        server.freeze()
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_server_ends_with_whoever_started_it():
    starter = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STARTER, stdout=subprocess.PIPE, start_new_session=True
    )
    assert starter.stdout is not None
    pid, folder = (await starter.stdout.readline()).decode().split()
    os.killpg(starter.pid, signal.SIGKILL)
    await starter.wait()

    try:

        async def gone() -> bool:
            return not alive(int(pid))

        await until(gone, "the server is gone")
    finally:
        shutil.rmtree(folder)


async def spoken(server: TlsServer, context: ssl.SSLContext, host: str) -> bytes:
    """What the server says to a PING over TLS."""
    reader, writer = await asyncio.open_connection(host, server.port, ssl=context)
    writer.write(b"PING\r\n")
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_tls_is_spoken_to_those_who_know_the_authority(tmp_path: Path):
    async with tls_server("--tls-auth-clients", "no") as server:
        files = server.certificates
        context = ssl.create_default_context(cafile=files.ca)
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # Python's own default since 3.13
        assert await spoken(server, context, "localhost") == b"+PONG\r\n"
        assert await spoken(server, context, "127.0.0.1") == b"+PONG\r\n"
        assert await server.ask("PING") == b"PONG"
        stranger = ssl.create_default_context(cafile=Certificates.make(tmp_path / "other").ca)
        with pytest.raises(ssl.SSLCertVerificationError):
            await spoken(server, stranger, "localhost")


async def test_tls_asks_for_a_certificate_of_the_client():
    async with tls_server() as server:
        files = server.certificates
        context = ssl.create_default_context(cafile=files.ca)
        with pytest.raises((ssl.SSLError, ConnectionResetError, BrokenPipeError)):
            assert await spoken(server, context, "localhost") == b"it closes instead"
        context.load_cert_chain(files.client_cert, files.client_key)
        assert await spoken(server, context, "localhost") == b"+PONG\r\n"


async def test_sentinels_promote_the_replica_of_a_dead_primary():
    async with sentinels("--requirepass", "secret", "--masterauth", "secret") as group:
        first = await group.primary()
        assert first is group.servers[0]
        await first.ask("SET", "name", "value")
        assert await first.ask("WAIT", 1, 5000) == 1
        await first.kill()
        second = await group.primary()
        assert second is group.servers[1]
        assert await second.ask("GET", "name") == b"value"
        running = pids(*group.servers, *group.sentinels)
    assert len(running) == 4
    assert not any(map(alive, running))


async def test_sentinels_change_places_on_demand_and_outlive_one_of_their_own():
    async with sentinels(replicas=2) as group:
        second = await group.failover()
        assert second is not group.servers[0]
        await group.sentinels[0].kill()
        assert await group.primary() is second
        await group.sentinels[0].start()
        assert await group.primary() is second


async def test_a_cluster_moves_slots_and_asks_half_way():
    async with cluster("--requirepass", "secret") as group:
        one, two, three = group.masters
        assert [await group.owner(slot) for slot in (0, SLOTS // 2, SLOTS - 1)] == [
            one,
            two,
            three,
        ]
        slot: int = await one.ask("CLUSTER", "KEYSLOT", "name")
        old = await group.owner(slot)
        new = one if old is not one else two
        await old.ask("SET", "name", "value")
        async with group.moving(slot, new) as giver:
            assert giver is old
            assert await old.ask("GET", "name") == b"value"
            with pytest.raises(hiredis.ReplyError, match=f"ASK {slot} 127.0.0.1:{new.port}"):
                await old.ask("GET", "{name}:other")
        assert await group.owner(slot) is new
        assert await new.ask("GET", "name") == b"value"
        with pytest.raises(hiredis.ReplyError, match=f"MOVED {slot} 127.0.0.1:{new.port}"):
            await old.ask("GET", "name")
        await group.reshard(range(3), three)
        assert await group.owner(2) is three
        await two.restart()
        await group.ready()
        running = pids(*group.nodes)
    assert len(running) == 3
    assert not any(map(alive, running))


async def test_a_cluster_promotes_the_replica_of_a_dead_master():
    async with cluster(replicas=1) as group:
        old = await group.owner(0)
        await old.kill()

        async def heir() -> bool:
            try:
                return await group.owner(0) in group.nodes[3:]
            except AssertionError:
                return False

        await until(heir, "a replica takes over", 20)
        await group.ready()
        await old.start()
        await group.ready()
        assert await group.owner(0) in group.nodes[3:]
