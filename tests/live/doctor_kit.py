"""What the doctor's tests share: an App over settings, what the doctor names in it, and
certificates with something wrong.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from tests.doors.http_kit import config_in
from tests.redis_kit import Certificates, RedisServer

from querycache.assembly import App
from querycache.assembly.doctor import patient
from querycache.usecases.diagnose import Diagnosis

BOUNDED = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
"""How a Redis is started that nothing is wrong with."""


def named(diagnosis: Diagnosis) -> list[str]:
    """The names of what makes a system unwell."""
    return [one.name for one in diagnosis.findings if one.severity != "info"]


@asynccontextmanager
async def opened(folder: Path, **variables: str) -> AsyncGenerator[App]:
    """An App over these settings."""
    app = App(patient(config_in(folder, **variables)), door="doctor")
    try:
        yield app
    finally:
        await app.close()


async def examined(folder: Path, *, redis_conf: str = "", **variables: str) -> Diagnosis:
    """What the doctor finds with these settings."""
    async with opened(folder, **variables) as app:
        return await app.diagnose(redis_conf=redis_conf, config=config_in(folder, **variables))


def reach(server: RedisServer) -> dict[str, str]:
    """The settings that lead to a server."""
    return {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(server.port)}


def certificates(
    folder: Path, *, name: str = "localhost", days: int = 1, address: str = "127.0.0.1"
) -> Certificates:
    """A CA, and a certificate of it for `name` and `address` that ends in so many days."""
    folder.mkdir(parents=True, exist_ok=True)
    ends = datetime.now(UTC) + timedelta(days=days)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
    ca = _certificate("test CA", keys[0], None, ends + timedelta(days=400))
    alternatives = x509.SubjectAlternativeName(
        [x509.DNSName(name), x509.IPAddress(IPv4Address(address))]
    )
    leaf = _certificate(name, keys[1], (ca, keys[0]), ends, alternatives)
    client = _certificate("client", keys[2], (ca, keys[0]), ends)
    files = Certificates(
        *(folder / one for one in ("ca.crt", "redis.crt", "redis.key", "client.crt", "client.key"))
    )
    for path, made in ((files.ca, ca), (files.cert, leaf), (files.client_cert, client)):
        path.write_bytes(made.public_bytes(Encoding.PEM))
    for path, key in ((files.key, keys[1]), (files.client_key, keys[2])):
        path.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        )
    return files


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None,
    ends: datetime,
    alternatives: x509.SubjectAlternativeName | None = None,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = issuer[1] if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ends - timedelta(days=800))
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if alternatives is not None:
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(signer, hashes.SHA256())
