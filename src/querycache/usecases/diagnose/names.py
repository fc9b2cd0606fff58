"""Every finding there is: its name, how bad it is, where the guide treats it, what it means.

The one table: the documentation, the dashboard and the doctor read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from querycache.ports.findings import Finding, Severity


class Known(msgspec.Struct, frozen=True):
    """A finding that can be made. `section` is the guide's."""

    name: str
    severity: Severity
    section: str
    means: str


_CONNECTION = "1. Connection Issues"
_PERFORMANCE = "2. Performance Issues"
_MEMORY = "3. Memory Issues"
_CONSISTENCY = "4. Data Consistency Issues"
_SECURITY = "5. Authentication and Security Issues"
_MONITORING = "Monitoring and Alerting"
_SUPPORT = "Support: common steps"

_ROWS: tuple[tuple[str, Severity, str, str], ...] = (
    ("redis.unreachable", "error", _CONNECTION, "Redis takes no connection"),
    ("redis.hung", "error", _CONNECTION, "Redis takes connections and does not answer"),
    ("redis.auth", "error", _CONNECTION, "Redis refuses the login"),
    ("redis.tls.plain_server", "error", _CONNECTION, "TLS is asked of what speaks none"),
    ("redis.tls.required", "error", _CONNECTION, "the server speaks TLS, and we do not"),
    ("redis.tls.ca", "error", _CONNECTION, "the CA of the settings does not vouch for the server"),
    ("redis.tls.expired", "error", _CONNECTION, "the server's certificate is out of its dates"),
    ("redis.tls.hostname", "error", _CONNECTION, "the certificate is for another host"),
    ("redis.tls.client_cert", "error", _CONNECTION, "the server wants another client certificate"),
    ("redis.tls.failed", "error", _CONNECTION, "TLS fails of something else"),
    ("latency.high", "warning", _PERFORMANCE, "Redis, or reads of a tier, take too long"),
    ("hit_rate.low", "warning", _PERFORMANCE, "too many reads miss"),
    ("errors.high", "warning", _MONITORING, "too many operations fail"),
    ("redis.maxmemory", "warning", _MEMORY, "Redis has no bound, or refuses writes at it"),
    ("memory.pressure", "warning", _MEMORY, "memory is short"),
    ("memory.leak", "warning", _MEMORY, "a process grows and does not stop"),
    ("evictions.high", "warning", _MEMORY, "entries are given up long before their time"),
    ("coherency.mismatch", "error", _CONSISTENCY, "L1 served what L2 holds otherwise"),
    ("invalidation.lag", "warning", _CONSISTENCY, "news of changes arrives late"),
    ("watcher.dead", "error", _CONSISTENCY, "a project is to be watched, and is not"),
    ("index.stale", "warning", _CONSISTENCY, "files differ from their index for a while"),
    ("crypto.key_missing", "error", _SECURITY, "encryption is on, and there is no key"),
    ("crypto.unknown_key", "error", _SECURITY, "entries are sealed with a key that is not here"),
    ("crypto.tampered", "error", _SECURITY, "stored bytes are not what was stored"),
    ("access.denied", "warning", _SECURITY, "access was refused, again and again"),
    ("config.invalid", "error", _SUPPORT, "a setting is wrong"),
    ("config.unknown", "warning", _SUPPORT, "a variable looks like a setting, and is none"),
    ("redis.config", "error", _CONNECTION, "a line of redis.conf is wrong, or dangerous"),
    ("clock.skew", "warning", _SUPPORT, "the clocks of Redis and of this machine differ"),
    ("disk.full", "error", _SUPPORT, "the disk of QUERYCACHE_HOME is almost full"),
    ("store.unusable", "error", _SUPPORT, "what is kept on disk can't be used"),
    ("check.unfinished", "warning", _SUPPORT, "a check of the doctor failed or took too long"),
)

KNOWN: Mapping[str, Known] = MappingProxyType({row[0]: Known(*row) for row in _ROWS})
"""By name, in the order of the guide."""


def finding(name: str, evidence: str, remedy: str, severity: Severity | None = None) -> Finding:
    """A finding of the table, as bad as it says, unless `severity` says otherwise."""
    return Finding(
        name,
        severity or KNOWN[name].severity,
        " ".join(evidence.split()),
        " ".join(remedy.split()),
    )
