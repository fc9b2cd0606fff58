"""What is around the cache: settings, keys, access, redis.conf, disk. Pure."""

from __future__ import annotations

from shlex import quote

from querycache.ports.findings import Finding
from querycache.usecases.diagnose.figures import (
    ConfFile,
    Denied,
    Machine,
    Settings,
    Store,
    Thresholds,
)
from querycache.usecases.diagnose.names import finding
from querycache.usecases.diagnose.redis_conf import judge

_MB = 1024 * 1024
_SHOWN = 3


def access(denied: Denied, thresholds: Thresholds) -> list[Finding]:
    """Whether access was refused more often than happens by mistake."""
    if denied.count < thresholds.denials:
        return []
    return [
        finding(
            "access.denied",
            f"access was refused {denied.count:,} times in the last {denied.window_s:g} s; the"
            f" audit log says last: {denied.last}",
            f"tail {quote(denied.log)}  # who asks; grant what is meant to be allowed",
        )
    ]


def settings(found: Settings) -> list[Finding]:
    """What is wrong with the settings, and what looks like a slip."""
    wrong = [finding("config.invalid", one, found.remedy) for one in found.problems]
    check = "querycache config check  # names the nearest setting; unset what is none"
    return wrong + [finding("config.unknown", one, check) for one in found.unknown]


def redis_conf(file: ConfFile) -> list[Finding]:
    """Lines of a redis.conf that stop the server, or are dangerous in a cache."""
    if file.error:
        return [finding("redis.config", file.error, "name a file: --redis-conf PATH", "warning")]
    wrong = [] if file.text is None else judge(file.text)
    if not wrong:
        return []
    stops = any(one.stops for one in wrong)
    shown = [f"{_place(one.line, one.text)}{one.why}" for one in wrong[:_SHOWN]]
    more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return [
        finding(
            "redis.config",
            f"{file.path}: {'; '.join(shown)}{more}",
            f"querycache config check {quote(file.path)}  # names every line",
            "error" if stops else "warning",
        )
    ]


def disk(machine: Machine, thresholds: Thresholds) -> list[Finding]:
    """Whether there is room where the stores are."""
    free = machine.free_bytes
    if free is None or free >= thresholds.disk_bytes:
        return []
    return [
        finding(
            "disk.full",
            f"{free / _MB:,.0f} of {machine.total_bytes / _MB:,.0f} MB are free on the disk of"
            f" {machine.home}; fewer than {thresholds.disk_bytes / _MB:.0f} MB stop writes soon",
            f"du -xsh {quote(machine.home)}/*  # or put it elsewhere: export QUERYCACHE_HOME=...",
        )
    ]


def store(machine: Machine, found: Store | None) -> list[Finding]:
    """Whether what is kept on disk can be used."""
    words = machine.home_error
    if not words and found is not None and found.backend == "sqlite" and not found.connected:
        words = f"the embedded store does not open: {found.error}"
    if not words:
        return []
    remedy = f"ls -ld {quote(machine.home)}  # it must be a folder of yours; or another:"
    return [finding("store.unusable", words, f"{remedy} export QUERYCACHE_HOME=...")]


def _place(line: int, text: str) -> str:
    return f"line {line} ({text}): " if line else ""
