"""Each problem of a Redis, made for real: the doctor names that one, and no other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.fault_proxy import fault_proxy
from tests.live.doctor_kit import BOUNDED, certificates, examined, named, opened, reach
from tests.redis_kit import RedisServer, TlsServer, free_port, redis_server, running
from tests.scripted_redis import MODERN, scripted_redis

from querycache.clock import SystemClock

pytestmark = [pytest.mark.asyncio, pytest.mark.live]

CLOCK = SystemClock()
SECRET = "s3cret"  # noqa: S105 -- of the tests
PLAIN = ("--tls-auth-clients", "no")


async def test_a_redis_that_is_down(tmp_path: Path):
    port = free_port()
    found = await examined(tmp_path, REDIS_HOST="127.0.0.1", REDIS_PORT=str(port))
    assert named(found) == ["redis.unreachable"]
    assert f"127.0.0.1:{port}" in found.findings[0].evidence
    assert "refused" in found.findings[0].evidence
    assert found.findings[0].remedy.startswith("docker compose -f docker-compose.cache.yml up -d")


@pytest.mark.parametrize("host", ["redis..example", "a" * 70])
async def test_a_host_that_can_be_none(tmp_path: Path, host: str):
    found = await examined(tmp_path, REDIS_HOST=host, REDIS_SSL_ENABLED="true")
    assert named(found) == ["redis.unreachable"]
    assert f"{host}:6379: host not found" in found.findings[0].evidence


async def test_a_redis_that_hangs(tmp_path: Path):
    async with redis_server(*BOUNDED) as server:
        server.freeze()
        try:
            found = await examined(tmp_path, **reach(server))
        finally:
            server.thaw()
    assert named(found) == ["redis.hung"]
    assert found.took_ms < 10_000


@pytest.mark.parametrize("password", ["", "wr0ng"])
async def test_a_redis_that_refuses_the_login(tmp_path: Path, password: str):
    async with redis_server(*BOUNDED, "--requirepass", SECRET) as server:
        found = await examined(tmp_path, REDIS_PASSWORD=password, **reach(server))
    assert named(found) == ["redis.auth"]
    assert "wr0ng" not in str(found)


async def test_a_redis_that_nothing_is_wrong_with(tmp_path: Path):
    async with redis_server(*BOUNDED, "--requirepass", SECRET) as server:
        found = await examined(tmp_path, REDIS_PASSWORD=SECRET, **reach(server))
    assert named(found) == []
    seen = {check.name: "\n".join(check.seen) for check in found.checks}
    assert "PING min" in seen["connection"]
    for field in ("used_memory", "used_memory_human", "used_memory_peak_human", "maxmemory"):
        assert field in seen["memory"]
    assert "mem_fragmentation_ratio" in seen["memory"]
    assert "an invalidation takes" in seen["invalidation"]


@asynccontextmanager
async def tls(folder: Path, *options: str, **wrong: object) -> AsyncGenerator[TlsServer]:
    files = certificates(folder / "tls", **wrong)  # pyright: ignore[reportArgumentType]  # its own options
    async with AsyncExitStack() as stack:
        (folder / "r").mkdir()
        server = TlsServer(folder / "r", files, *BOUNDED, *options)
        await stack.enter_async_context(running([server]))
        yield server


def sealed(server: RedisServer, ca: Path, **more: str) -> dict[str, str]:
    return {
        **reach(server),
        "REDIS_SSL_ENABLED": "true",
        "REDIS_SSL_CA_CERT_PATH": str(ca),
        **more,
    }


async def test_tls_that_works(tmp_path: Path):
    async with tls(tmp_path, *PLAIN) as server:
        found = await examined(tmp_path, **sealed(server, server.certificates.ca))
    assert named(found) == []
    (seen,) = (check.seen for check in found.checks if check.name == "tls")
    assert any("subject CN=localhost" in one and "notAfter 20" in one for one in seen)
    assert any("chain: issued by CN=test CA" in one for one in seen)


async def test_tls_asked_of_a_server_without(tmp_path: Path):
    ca = certificates(tmp_path / "tls").ca
    async with redis_server(*BOUNDED) as server:
        found = await examined(tmp_path, **sealed(server, ca))
    assert named(found) == ["redis.tls.plain_server"]


async def test_a_server_that_speaks_tls_only(tmp_path: Path):
    async with tls(tmp_path, *PLAIN) as server:
        found = await examined(tmp_path, **reach(server))
    assert named(found) == ["redis.tls.required"]


async def test_a_server_of_another_ca(tmp_path: Path):
    other = certificates(tmp_path / "other").ca
    async with tls(tmp_path, *PLAIN) as server:
        found = await examined(tmp_path, **sealed(server, other))
    assert named(found) == ["redis.tls.ca"]


async def test_a_certificate_that_has_expired(tmp_path: Path):
    async with tls(tmp_path, *PLAIN, days=-2) as server:
        found = await examined(tmp_path, **sealed(server, server.certificates.ca))
    assert named(found) == ["redis.tls.expired"]
    assert "notAfter" in found.findings[0].evidence


async def test_a_certificate_of_another_host(tmp_path: Path):
    async with tls(tmp_path, *PLAIN, name="cache.example", address="192.0.2.7") as server:
        found = await examined(tmp_path, **sealed(server, server.certificates.ca))
    assert named(found) == ["redis.tls.hostname"]
    assert "CN=cache.example" in found.findings[0].evidence


@pytest.mark.parametrize("protocol", ["TLSv1.2", "TLSv1.3"])
async def test_a_server_that_wants_a_client_certificate(tmp_path: Path, protocol: str):
    async with tls(tmp_path, "--tls-protocols", protocol) as server:
        files = server.certificates
        found = await examined(tmp_path, **sealed(server, files.ca))
        assert named(found) == ["redis.tls.client_cert"]
        own = {
            "REDIS_SSL_CERT_PATH": str(files.client_cert),
            "REDIS_SSL_KEY_PATH": str(files.client_key),
        }
        assert named(await examined(tmp_path, **sealed(server, files.ca, **own))) == []


async def test_a_redis_that_is_far_away(tmp_path: Path):
    async with (
        redis_server(*BOUNDED) as server,
        fault_proxy(server.address) as proxy,
    ):
        proxy.set(delay=0.06)
        where = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(proxy.port)}
        found = await examined(tmp_path, **where)
    assert named(found) == ["latency.high"]
    assert "avg 6" in found.findings[0].evidence


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "maxmemory is 0"),
        (("--maxmemory", "100mb"), "noeviction"),
        (("--maxmemory-policy", "allkeys-lru"), "maxmemory is 0"),
    ],
)
async def test_a_redis_without_a_bound(tmp_path: Path, options: tuple[str, ...], words: str):
    async with redis_server(*options) as server:
        found = await examined(tmp_path, **reach(server))
    assert named(found) == ["redis.maxmemory"]
    assert words in found.findings[0].evidence
    assert found.findings[0].remedy.startswith("querycache config apply-redis")


async def test_a_redis_that_is_too_small(tmp_path: Path):
    chosen = random.Random(4)
    async with (
        redis_server("--maxmemory", "4mb", *BOUNDED[2:]) as server,
        opened(tmp_path, **reach(server)) as app,
    ):
        for number in range(800):
            await app.remember.set(f"k{number}", chosen.randbytes(10_000))
        found = await app.diagnose()
    assert named(found) == ["evictions.high"]


async def test_a_clock_that_differs(tmp_path: Path):
    def told(shift: float) -> bytes:
        now = str(int(CLOCK.wall() + shift)).encode()
        return b"*2\r\n$%d\r\n%b\r\n$1\r\n0\r\n" % (len(now), now)

    for shift, names in ((-60.0, ["clock.skew"]), (0.0, [])):
        answers = {**MODERN, b"TIME": told(shift)}
        async with scripted_redis(answers) as server:
            where = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(server.port)}
            found = await examined(tmp_path, **where)
        assert named(found) == names


BAD_LINES: dict[str, Callable[[str], bool]] = {
    "tcp-nodelay yes": lambda told: "line 3 (tcp-nodelay yes)" in told,
    "maxmemory-policy lru": lambda told: "allkeys-lru" in told,
    "timeout never": lambda told: "whole number" in told,
}


@pytest.mark.parametrize("line", BAD_LINES)
async def test_a_redis_conf_with_a_bad_line(tmp_path: Path, line: str):
    path = tmp_path / "redis.conf"
    path.write_text(f"maxmemory 1gb\nmaxmemory-policy allkeys-lru\n{line}\n")
    found = await examined(tmp_path, redis_conf=str(path))
    assert named(found) == ["redis.config"]
    assert BAD_LINES[line](found.findings[0].evidence)


async def test_all_looks_end_in_time_though_the_server_never_answers(tmp_path: Path):
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass
        writer.close()

    silent = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = str(silent.sockets[0].getsockname()[1])
    async with silent:
        found = await examined(tmp_path, REDIS_HOST="127.0.0.1", REDIS_PORT=port)
    assert named(found) == ["redis.hung"]
    assert found.took_ms < 10_000
