"""The proxy does to a connection what its faults say, and nothing else."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import pytest_asyncio
from tests.fault_proxy import FaultProxy, ProxyProcess, fault_proxy, proxy_process

pytestmark = [pytest.mark.asyncio, pytest.mark.live]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionResetError):
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
    writer.close()


@pytest_asyncio.fixture
async def target() -> AsyncIterator[tuple[str, int]]:
    """A server that says what it is told."""
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def told(self, data: bytes) -> bytes:
        """What comes back for it."""
        self.writer.write(data)
        return await self.hears(len(data))

    async def hears(self, count: int) -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.readexactly(count)

    async def hears_nothing(self) -> bool:
        """Not even an end."""
        try:
            async with asyncio.timeout(0.1):
                await self.reader.read(1)
        except TimeoutError:
            return True
        return False

    async def is_reset(self) -> bool:
        try:
            async with asyncio.timeout(5):
                return await self.reader.read(1) == b"never"
        except ConnectionResetError:
            return True


@asynccontextmanager
async def client_of(proxy: FaultProxy | ProxyProcess) -> AsyncGenerator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionResetError):
            await writer.wait_closed()


async def test_without_faults_all_passes(target: tuple[str, int]):
    async with fault_proxy(target) as proxy, client_of(proxy) as client:
        data = os.urandom(20_000_000)  # more than may wait at once
        assert await client.told(data) == data
        client.writer.write_eof()
        assert await client.reader.read() == b""
        assert proxy.connections == 1


async def test_a_delay_is_latency_and_no_cap(target: tuple[str, int]):
    async with fault_proxy(target) as proxy, client_of(proxy) as client:
        await client.told(b"x")
        proxy.set(delay=0.1, jitter=0.01)
        began = time.monotonic()
        for number in range(20):
            client.writer.write(bytes([number]))
            await asyncio.sleep(0.002)  # pieces of their own
        assert await client.hears(20) == bytes(range(20))
        assert 0.1 <= time.monotonic() - began < 1


async def test_a_reset_comes_in_the_middle_of_a_reply(target: tuple[str, int]):
    async with fault_proxy(target) as proxy, client_of(proxy) as client:
        proxy.set(reset_after=10)
        assert await client.told(b"1234") == b"1234"
        client.writer.write(b"567890abc")
        assert await client.hears(6) == b"567890"
        assert await client.is_reset()


async def test_lost_replies_are_lost_and_the_next_ones_come(target: tuple[str, int]):
    async with fault_proxy(target) as proxy, client_of(proxy) as client:
        await client.told(b"x")
        proxy.set(lose_replies=True)
        client.writer.write(b"lost")
        assert await client.hears_nothing()
        proxy.heal()
        assert await client.told(b"next") == b"next"


async def test_held_replies_come_though_late(target: tuple[str, int]):
    async with fault_proxy(target) as proxy, client_of(proxy) as client:
        await client.told(b"x")
        proxy.set(hold_replies=True)
        client.writer.write(b"held")
        assert await client.hears_nothing()
        proxy.set(hold_replies=False)
        assert await client.hears(4) == b"held"


async def test_silence_passes_nothing_and_closes_nothing(tmp_path: Path):
    heard: list[bytes] = []

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readexactly(1))
        writer.write(b"bye")
        writer.close()

    where = tmp_path / "once.sock"
    async with (
        await asyncio.start_unix_server(once, where),
        fault_proxy(where) as proxy,
        client_of(proxy) as ended,
    ):
        proxy.set(silent=True)
        ended.writer.write(b"1")
        async with client_of(proxy) as meanwhile:
            meanwhile.writer.write(b"2")
            assert await ended.hears_nothing()
            assert await meanwhile.hears_nothing()
            assert heard == []
            proxy.set(silent=False, hold_replies=True)
            assert await ended.hears_nothing()  # the server has closed, and we don't know
            assert sorted(heard) == [b"1", b"2"]
            proxy.heal()
            assert await ended.reader.read() == await meanwhile.reader.read() == b"bye"


async def test_one_bit_of_a_reply_flips(target: tuple[str, int]):
    async with fault_proxy(target, seed=3) as proxy, client_of(proxy) as client:
        proxy.set(flip=1.0)
        assert sum(byte.bit_count() for byte in await client.told(bytes(1000))) == 1


async def test_cut_and_refused(target: tuple[str, int]):
    async with fault_proxy(target) as proxy:
        async with client_of(proxy) as client:
            await client.told(b"x")
            assert proxy.cut() == 1
            assert await client.is_reset()
        proxy.set(refuse=True)
        async with client_of(proxy) as client:
            assert await client.is_reset()
        proxy.heal()
        async with client_of(proxy) as client:
            assert await client.told(b"y") == b"y"


async def test_it_comes_back_on_its_port(target: tuple[str, int]):
    async with fault_proxy(target) as proxy:
        await proxy.stop()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        await proxy.start()
        async with client_of(proxy) as client:
            assert await client.told(b"x") == b"x"


async def test_a_server_that_is_away_resets(tmp_path: Path):
    async with fault_proxy(tmp_path / "nobody.sock") as proxy, client_of(proxy) as client:
        assert await client.is_reset()


async def test_in_a_process_it_works_while_our_loop_is_frozen(target: tuple[str, int]):
    with proxy_process(target) as proxy:
        async with client_of(proxy) as client:
            assert await client.told(b"x") == b"x"
            assert proxy.connections == 1
            proxy.set(hold_replies=True)
            client.writer.write(b"late")
            assert await client.hears_nothing()
            raw = client.writer.get_extra_info("socket")
            proxy.heal()  # while this loop does not run
            deadline = time.monotonic() + 5
            received = b""
            while not received and time.monotonic() < deadline:
                with suppress(BlockingIOError):
                    received = os.read(raw.fileno(), 4)
            assert received == b"late"
            assert proxy.cut() == 1
            assert await client.is_reset()
        with pytest.raises(AssertionError, match="wrong"):
            proxy.set(wrong=1)


STARTER = """
import time
from tests.fault_proxy import ProxyProcess

print(ProxyProcess(("127.0.0.1", 1)).port, flush=True)
time.sleep(60)
"""


async def test_its_process_ends_with_whoever_started_it():
    starter = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STARTER, stdout=subprocess.PIPE
    )
    assert starter.stdout is not None
    port = int(await starter.stdout.readline())
    starter.kill()
    await starter.wait()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return
        writer.close()
        with suppress(ConnectionResetError):
            await writer.wait_closed()
    pytest.fail("it still listens")
