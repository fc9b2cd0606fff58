"""TLS: what is trusted, what is refused, and that nothing travels where it is refused (F16)."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.link_kit import Heard, admin, ask, get, link_to, put, refused
from tests.redis_kit import Certificates, TlsServer, redis_server

from querycache.errors import ConfigError, TierError
from querycache.tiers.redis.link import Greeting
from querycache.tiers.redis.tls import Tls

pytestmark = pytest.mark.asyncio

SECRET = "never-in-clear"  # noqa: S105 -- of the tests' own servers


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=folder)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("tls") / "a")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("tls") / "b")


@asynccontextmanager
async def serving(
    folder: Path, certificates: Certificates, *options: str
) -> AsyncGenerator[TlsServer]:
    server = TlsServer(folder, certificates, "--tls-auth-clients", "no", *options)
    await server.start()
    try:
        yield server
    finally:
        server.stop()


def settings(server: TlsServer, host: str = "127.0.0.1", ca: Path | None = None) -> dict[str, str]:
    return {
        "REDIS_URL": f"rediss://:{SECRET}@{host}:{server.port}",
        "REDIS_SSL_CA_CERT_PATH": str(ca or server.certificates.ca),
    }


def as_client(certificates: Certificates) -> dict[str, str]:
    return {
        "REDIS_SSL_CERT_PATH": str(certificates.client_cert),
        "REDIS_SSL_KEY_PATH": str(certificates.client_key),
    }


async def untouched(server: TlsServer) -> bool:
    """Whether no command came over the network."""
    said: bytes = await server.ask("INFO", "commandstats")
    return not any(name in said for name in (b"cmdstat_get", b"cmdstat_hello", b"cmdstat_set"))


async def both_refuse(environ: dict[str, str], words: Sequence[str]) -> None:
    """The data path and administration refuse within a second, with the reason."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with link_to(**environ) as link:
        told = [str(await refused(link)), str(await refused(link))]
    with pytest.raises(TierError) as caught:
        await admin(**environ).servers()
    assert loop.time() - started < 1.5  # both, so a little more than one second
    for message in (*told, str(caught.value)):
        assert any(word in message.lower() for word in words), message
        assert SECRET not in message


# --- what works --------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_both_ways_to_a_server_are_sealed(
    tmp_path: Path, certificates: Certificates, host: str
):
    login = ("--requirepass", SECRET)
    async with serving(tmp_path, certificates, *login) as server:
        environ = settings(server, host)
        async with link_to(**environ) as link:
            assert await ask(link, put("a", "x" * 100_000)) == b"OK"
            assert await ask(link, get("a")) == b"x" * 100_000
        async with admin(**environ).client() as client:
            assert await client.strlen("a") == 100_000


async def test_a_client_shows_its_certificate(tmp_path: Path, certificates: Certificates):
    options = ("--tls-auth-clients", "yes", "--requirepass", SECRET)
    async with serving(tmp_path, certificates, *options) as server:
        environ = settings(server) | as_client(certificates)
        heard = Heard()
        async with link_to(heard, **environ) as link:
            assert await ask(link, put("a", "1")) == b"OK"
            assert len(heard.joins) == 1
        assert (await admin(**environ).servers())[0].role == "master"


async def test_a_self_signed_certificate_is_its_own_authority(tmp_path: Path):
    """As the guide makes one: no subjectAltName, the host in the common name."""
    openssl(
        tmp_path,
        *("req", "-x509", "-nodes", "-days", "365", "-newkey", "rsa:2048"),
        *("-keyout", "redis.key", "-out", "redis.crt"),
        *("-subj", "/C=US/ST=State/L=City/O=Organization/CN=localhost"),
    )
    cert, key = tmp_path / "redis.crt", tmp_path / "redis.key"
    files = Certificates(cert, cert, key, cert, key)
    async with serving(tmp_path, files, "--requirepass", SECRET) as server:
        environ = {
            "REDIS_HOST": "localhost",
            "REDIS_PORT": str(server.port),
            "REDIS_PASSWORD": SECRET,
            "REDIS_SSL_ENABLED": "true",
            "REDIS_SSL_CERT_PATH": str(cert),
            "REDIS_SSL_KEY_PATH": str(key),
            "REDIS_SSL_CA_CERT_PATH": str(cert),
        }
        async with link_to(**environ) as link:
            assert await ask(link, put("a", "1")) == b"OK"
        async with admin(**environ).client() as client:
            assert await client.get("a") == b"1"


# --- what is refused ---------------------------------------------------------------------------


async def test_an_authority_that_did_not_sign(
    tmp_path: Path, certificates: Certificates, others: Certificates
):
    async with serving(tmp_path, certificates) as server:
        await both_refuse(settings(server, ca=others.ca), ["certificate"])
        assert await untouched(server)


def signed(folder: Path, by: Certificates, names: str, days: int) -> Certificates:
    """A server's certificate for other names or dates."""
    openssl(
        folder,
        *("req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other"),
        *("-addext", f"subjectAltName={names}", "-keyout", "other.key", "-out", "other.csr"),
    )
    openssl(
        folder,
        *("x509", "-req", "-in", "other.csr", "-CAcreateserial", "-copy_extensions", "copy"),
        *("-CA", str(by.ca), "-CAkey", str(by.ca.parent / "ca.key")),
        *("-days", str(days), "-out", "other.crt"),
    )
    return by._replace(cert=folder / "other.crt", key=folder / "other.key")


async def test_a_certificate_out_of_its_dates(tmp_path: Path, certificates: Certificates):
    files = signed(tmp_path, certificates, "DNS:localhost,IP:127.0.0.1", -1)
    async with serving(tmp_path, files) as server:
        await both_refuse(settings(server), ["expired"])
        assert await untouched(server)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_certificate_of_another_host(
    tmp_path: Path, certificates: Certificates, host: str
):
    files = signed(tmp_path, certificates, "DNS:redis.example,IP:127.0.0.9", 2)
    async with serving(tmp_path, files) as server:
        await both_refuse(settings(server, host), ["mismatch"])
        assert await untouched(server)


async def test_no_certificate_where_the_server_wants_one(
    tmp_path: Path, certificates: Certificates, others: Certificates
):
    async with serving(tmp_path, certificates, "--tls-auth-clients", "yes") as server:
        why = ["certificate", "unknown ca", "tls handshake"]  # TLS 1.3 tells it after that
        await both_refuse(settings(server), why)
        await both_refuse(settings(server) | as_client(others), why)
        assert await untouched(server)


async def test_a_port_that_speaks_no_tls_gets_no_word():
    seen = bytearray()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(await reader.read(65_536))
        writer.write(b"-ERR unknown command\r\n")
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        environ = {"REDIS_URL": f"rediss://:{SECRET}@127.0.0.1:{port}"}
        await both_refuse(environ, ["tls"])
    assert seen[:2] == b"\x16\x03"  # a handshake, and nothing after it
    assert SECRET.encode() not in seen
    assert b"GET" not in seen


async def test_a_redis_that_speaks_no_tls_is_given_up_in_time():
    loop = asyncio.get_running_loop()
    async with redis_server() as server:
        url = f"rediss://:{SECRET}@127.0.0.1:{server.port}"
        async with link_to(REDIS_URL=url) as link:
            started = loop.time()
            await refused(link)
            assert loop.time() - started < 1
        assert b"cmdstat_auth" not in await server.ask("INFO", "commandstats")


async def test_a_plain_client_at_a_port_of_tls_is_refused(
    tmp_path: Path, certificates: Certificates
):
    async with serving(tmp_path, certificates) as server:
        async with link_to(REDIS_URL=f"redis://127.0.0.1:{server.port}") as link:
            assert "closed" in str(await refused(link))
        assert await untouched(server)


# --- files -------------------------------------------------------------------------------------


async def test_the_context_checks_all(certificates: Certificates):
    context = Tls(certificates.ca, certificates.client_cert, certificates.client_key).context()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) == 1  # the system's count for nothing then
    assert len(Tls().context().get_ca_certs()) != 1


async def test_files_that_can_not_be_used_are_named(
    tmp_path: Path, certificates: Certificates, others: Certificates
):
    text = tmp_path / "text"
    text.write_text("no certificate")
    locked = tmp_path / "locked.key"
    openssl(
        tmp_path,
        *("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-aes256", "-pass", "pass:x", "-out", str(locked)),
    )
    cert, key = certificates.client_cert, certificates.client_key
    absent = tmp_path / "absent"
    for tls, named in (
        (Tls(ca=text), f"REDIS_SSL_CA_CERT_PATH={text}"),
        (Tls(ca=absent), f"REDIS_SSL_CA_CERT_PATH={absent}"),
        (Tls(cert=absent, key=key), f"REDIS_SSL_CERT_PATH={absent}"),
        (Tls(cert=cert, key=absent), f"REDIS_SSL_KEY_PATH={absent}"),
        (Tls(cert=cert, key=others.client_key), f"REDIS_SSL_KEY_PATH={others.client_key}"),
        (Tls(cert=cert, key=locked), f"REDIS_SSL_KEY_PATH={locked}"),
    ):
        with pytest.raises(ConfigError) as wrong:
            tls.context()
        assert named in str(wrong.value)


async def test_no_greeting_is_shown():
    assert SECRET not in repr(Greeting(password=SECRET))
