"""The certificates of the settings of TLS and of a server: whose they are, how long they last, and
whether the configured CA vouches for them.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from querycache.ports.probing import Certificate
from querycache.tiers.redis.endpoint import Endpoint
from querycache.tiers.redis.tls import Tls

_UNREADABLE = "can't be read as PEM"


def configured(tls: Tls) -> list[Certificate]:
    """Those of the settings."""
    trusted = _trusted(tls)
    named = (("REDIS_SSL_CA_CERT_PATH", tls.ca), ("REDIS_SSL_CERT_PATH", tls.cert))
    found: list[Certificate] = []
    for role, path in named:
        if path is None:
            continue
        certificates = _read(path)
        if not certificates:
            found.append(Certificate(role, str(path), "", 0.0, _UNREADABLE))
        found += [_told(role, str(path), one, trusted) for one in certificates]
    return found


async def presented(endpoint: Endpoint, tls: Tls, patience_s: float) -> list[Certificate]:
    """What a server shows, whoever vouches for it; nothing where it shows none."""
    context = tls.context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is looked at, and nothing is sent
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(patience_s):
            _, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=context)
        try:
            shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        finally:
            writer.transport.abort()
        if shown:
            certificate = x509.load_der_x509_certificate(shown)
            return [_told("server", endpoint.where, certificate, _trusted(tls))]
    return []


def _read(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return []


def _trusted(tls: Tls) -> list[x509.Certificate]:
    return _read(tls.ca) if tls.ca else []


def _told(
    role: str, path: str, certificate: x509.Certificate, trusted: list[x509.Certificate]
) -> Certificate:
    return Certificate(
        role,
        path,
        certificate.subject.rfc4514_string(),
        certificate.not_valid_after_utc.timestamp(),
        _chain(certificate, trusted),
    )


def _chain(certificate: x509.Certificate, trusted: list[x509.Certificate]) -> str:
    if certificate in trusted:
        return "trusted"
    if not trusted:
        return "left to the system's certificates"
    for authority in trusted:
        with suppress(ValueError, TypeError, InvalidSignature):
            certificate.verify_directly_issued_by(authority)
            return f"issued by {authority.subject.rfc4514_string()}"
    return f"not issued by the CA of the settings, but by {certificate.issuer.rfc4514_string()}"
