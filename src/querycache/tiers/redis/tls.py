"""TLS to Redis: TLS 1.2 or later, the chain and the host name checked, never plain instead."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from querycache.errors import ConfigError

_ISSUER = {18, 19, 20, 21}  # X509_V_ERR_*: self-signed, or by nobody whom we trust
_EXPIRED = 10
_NOT_YET = 9
_HOST, _ADDRESS = 62, 64
_PLAIN = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_MESSAGE", "HTTP_REQUEST"}
_WANTED = {"TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_HANDSHAKE_FAILURE"}
_UNKNOWN = {"TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_BAD_CERTIFICATE"}


@dataclass(frozen=True, slots=True)
class Tls:
    """The files of TLS.

    Attributes:
        ca: Certificates that the server is checked by, alone; None for the system's.
        cert: The client's own certificate, and `key` its private key; both or none.
        key: See `cert`.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """A context that checks chain and host name. Reads the files.

        Raises `ConfigError`, with the path of what can't be used.
        """
        context = _trusting(self.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert is not None and self.key is not None:
            _present(context, self.cert, self.key)
        return context


def _trusting(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca) if ca else None)
    except OSError as error:  # ssl.SSLError is one
        raise _unusable("REDIS_SSL_CA_CERT_PATH", ca, error) from error


def _present(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    for name, path in (("REDIS_SSL_CERT_PATH", cert), ("REDIS_SSL_KEY_PATH", key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise _unusable(name, path, error) from error
    try:  # without a password of ours, OpenSSL would ask the terminal for one
        context.load_cert_chain(str(cert), str(key), password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"REDIS_SSL_KEY_PATH={key}: is not the key of REDIS_SSL_CERT_PATH={cert}",
                remedy="name the certificate and the key that were made together",
            ) from error
        raise ConfigError(
            f"REDIS_SSL_CERT_PATH={cert}, REDIS_SSL_KEY_PATH={key}: can't be read as PEM, or the"
            " key wants a pass phrase",
            remedy="name a PEM certificate and its key without a pass phrase",
        ) from error


def _unusable(name: str, path: Path | None, error: OSError) -> ConfigError:
    why = "holds no PEM certificate" if isinstance(error, ssl.SSLError) else error.strerror
    return ConfigError(f"{name}={path}: {why}", remedy=f"make it readable, or unset {name}")


def reason(error: BaseException) -> str:
    """Why a handshake failed, in words for the one who must mend it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        said = f"certificate verify failed: {error.verify_message.rstrip('.')}"
        return f"TLS: {said}; {_certificate(error.verify_code)}"
    if isinstance(error, ssl.SSLError):
        return f"TLS handshake failed: {_handshake(_code(error))}"
    return f"TLS handshake failed: {error or 'the server closed the connection'}"


def which(error: ssl.SSLError) -> str:
    """What a handshake failed of: ca, expired, hostname, client_cert, plain (the server speaks no
    TLS), or other.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        numbers = {"ca": _ISSUER, "expired": {_EXPIRED, _NOT_YET}, "hostname": {_HOST, _ADDRESS}}
        named = [name for name, codes in numbers.items() if error.verify_code in codes]
        return named[0] if named else "other"
    if _code(error) in _PLAIN:
        return "plain"
    return "client_cert" if _code(error) in _WANTED | _UNKNOWN else "other"


def _certificate(code: int) -> str:
    if code in _ISSUER:
        return "REDIS_SSL_CA_CERT_PATH names no certificate that vouches for it"
    if code in {_EXPIRED, _NOT_YET}:
        return "the server's certificate is out of its dates"
    if code in {_HOST, _ADDRESS}:
        return "the server's certificate is for another host"
    return "the server's certificate can't be used"


def _code(error: ssl.SSLError) -> str:
    return str(getattr(error, "reason", "") or "")  # one that OpenSSL did not raise has none


def _handshake(code: str) -> str:
    if code in _PLAIN:
        return "what answers there speaks no TLS: a wrong port, or a server without TLS"
    if code in _WANTED:
        return "the server wants a client's certificate: REDIS_SSL_CERT_PATH, REDIS_SSL_KEY_PATH"
    if code in _UNKNOWN:
        return "the server does not accept the certificate of REDIS_SSL_CERT_PATH"
    return code.lower().replace("_", " ") or "for no reason that OpenSSL gives"
