"""What the look at Redis servers says: connection, login, TLS, memory, evictions, clock. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from querycache.ports.findings import Finding
from querycache.ports.probing import Probed, Redis, passed
from querycache.usecases.diagnose.figures import Thresholds
from querycache.usecases.diagnose.names import finding

_MB = 1024 * 1024
_EVICTIONS = 100  # fewer say nothing
_TLS = "openssl s_client -connect {where} -tls1_2 </dev/null"
_CERTS = "sh deploy/redis/make-certs.sh deploy/redis/certs"
_REMEDIES = {
    "unreachable": "docker compose -f docker-compose.cache.yml up -d redis-cache"
    "  # or: redis-server deploy/redis/redis.conf; if it is elsewhere: set REDIS_URL,"
    " or without it REDIS_HOST and REDIS_PORT",
    "hung": "docker compose -f docker-compose.cache.yml restart redis-cache"
    "  # first, why: redis-cli {at} --latency",
    "auth": "export REDIS_PASSWORD=...  # the server's requirepass; a user goes into REDIS_URL",
    "tls.plain_server": "export REDIS_SSL_ENABLED=false"
    "  # or name the port that speaks TLS: export REDIS_PORT=6380",
    "tls.required": "export REDIS_SSL_ENABLED=true REDIS_SSL_CA_CERT_PATH=/path/to/ca.crt",
    "tls.ca": "export REDIS_SSL_CA_CERT_PATH=/path/to/ca.crt"
    f"  # the one that signed what the server shows: {_TLS}",
    "tls.expired": f"{_CERTS}  # makes new ones; then restart Redis",
    "tls.hostname": "export REDIS_HOST=...  # a name that the certificate bears, or make one for"
    " this name: " + _CERTS + " {host}",
    "tls.client_cert": "export REDIS_SSL_CERT_PATH=/path/to/client.crt"
    " REDIS_SSL_KEY_PATH=/path/to/client.key  # signed by the server's CA",
    "tls.failed": _TLS,
}


def connection(redis: Redis) -> list[Finding]:
    """Servers that can't be reached, do not answer, or refuse the login."""
    return [
        _stuck(redis, one)
        for one in redis.servers
        if one.trouble is not None and not one.trouble.startswith("tls.")
    ]


def tls(redis: Redis) -> list[Finding]:
    """Servers whose TLS fails, and of what."""
    return [
        _stuck(redis, one)
        for one in redis.servers
        if one.trouble is not None and one.trouble.startswith("tls.")
    ]


def bound(redis: Redis) -> list[Finding]:
    """Servers without a bound, or that refuse writes at it."""
    found: list[Finding] = []
    for one in passed(redis.servers):
        policy = one.info.get("maxmemory_policy", "")
        if not policy:  # INFO may not be asked
            continue
        why: list[str] = []
        if not one.number("maxmemory"):
            why.append("maxmemory is 0: it grows until the machine has no memory left")
        elif policy == "noeviction":
            why.append("maxmemory-policy is noeviction: when it is full, it refuses every write")
        if why:
            remedy = (
                "querycache config apply-redis  # gives it REDIS_MAXMEMORY and its policy; where"
                " others keep what must not be evicted, use a Redis of your own"
            )
            found.append(finding("redis.maxmemory", f"{one.where}: {'; '.join(why)}", remedy))
    return found


def full(redis: Redis, thresholds: Thresholds) -> list[Finding]:
    """Servers that evict nothing and are nearly full; to evict at the bound is no trouble."""
    found: list[Finding] = []
    for one in passed(redis.servers):
        used, most = one.number("used_memory"), one.number("maxmemory")
        share = used / most if most else 0.0
        stuck = one.info.get("maxmemory_policy") == "noeviction"
        if stuck and share >= thresholds.memory_warning:
            critical = share >= thresholds.memory_critical
            found.append(
                finding(
                    "memory.pressure",
                    f"{one.where} uses {used / _MB:.0f} MB of maxmemory {most / _MB:.0f} MB"
                    f" ({share:.0%}), and evicts nothing",
                    _twice(most),
                    "error" if critical else "warning",
                )
            )
    return found


def evictions(redis: Redis, ttl_s: float) -> list[Finding]:
    """Servers that evict entries long before their time: since they started, an entry has lasted
    less than half of its life (`ttl_s`).
    """
    found: list[Finding] = []
    for one in passed(redis.servers):
        evicted, held = one.number("evicted_keys"), _held(one)
        uptime = one.number("uptime_in_seconds")
        lasts = held * max(1, uptime) / evicted if evicted else ttl_s
        if evicted >= max(_EVICTIONS, held) and lasts < ttl_s / 2:
            found.append(
                finding(
                    "evictions.high",
                    f"{one.where} evicted {evicted:,} entries in {uptime:,} s and holds {held:,}"
                    f" (maxmemory {one.number('maxmemory') / _MB:.0f} MB): one lasts"
                    f" {lasts:.0f} s, and is meant to last {ttl_s:.0f} s",
                    _twice(one.number("maxmemory")),
                )
            )
    return found


def pings(redis: Redis, thresholds: Thresholds) -> list[Finding]:
    """Servers that answer slowly: half of the pings took longer than is allowed."""
    found: list[Finding] = []
    for one in passed(redis.servers):
        times = sorted(one.pings_ms)
        if times and times[len(times) // 2] > thresholds.latency_ms:
            found.append(
                finding(
                    "latency.high",
                    f"{one.where}: PING takes {spread(one)}; more than"
                    f" {thresholds.latency_ms:g} ms is slow",
                    f"redis-cli {_options(one.where)} --intrinsic-latency 5  # on its machine;"
                    f" and from here: redis-cli {_options(one.where)} --latency",
                )
            )
    return found


def clock(redis: Redis, thresholds: Thresholds) -> list[Finding]:
    """Servers whose clock differs from ours."""
    return [
        finding(
            "clock.skew",
            f"the clock of {one.where} is {abs(one.ahead_s):.1f} s"
            f" {'ahead of' if one.ahead_s > 0 else 'behind'} ours: entries expire at other"
            " times than they say",
            "timedatectl set-ntp true  # on both machines; see: chronyc tracking",
        )
        for one in passed(redis.servers)
        if one.ahead_s is not None and abs(one.ahead_s) > thresholds.clock_s
    ]


def spread(one: Probed) -> str:
    """The times of its pings: least, mean, most."""
    times = one.pings_ms
    mean = sum(times) / len(times)
    return f"min {min(times):.2f} / avg {mean:.2f} / max {max(times):.2f} ms"


def seen(redis: Redis) -> list[str]:
    """What was seen of each server."""
    return [
        f"{one.where}: Redis {one.info.get('redis_version', '?')},"
        f" up {one.number('uptime_in_seconds'):,} s, PING {spread(one)}"
        for one in passed(redis.servers)
    ]


def seen_memory(redis: Redis) -> list[str]:
    """The memory of each server, as INFO memory tells it."""
    names = ("used_memory", "used_memory_human", "used_memory_peak_human", "maxmemory")
    names += ("maxmemory_policy", "mem_fragmentation_ratio")
    return [
        f"{one.where}: " + ", ".join(f"{name} {one.info.get(name, '?')}" for name in names)
        for one in passed(redis.servers)
    ]


def seen_certificates(redis: Redis) -> list[str]:
    """Whose the certificates are, until when, and who vouches for them."""
    return [
        f"{one.role} {one.path}: subject {one.subject}, notAfter {_day(one.not_after)},"
        f" chain: {one.chain}"
        for one in redis.certificates
    ]


def _stuck(redis: Redis, one: Probed) -> Finding:
    trouble = one.trouble or "unreachable"
    words = one.words if one.where in one.words else f"{one.where}: {one.words}"
    if trouble in {"tls.expired", "tls.hostname", "tls.ca"}:
        shown = [seen for seen in redis.certificates if seen.path == one.where]
        words += "".join(
            f" (it shows {seen.subject}, notAfter {_day(seen.not_after)})" for seen in shown[:1]
        )
    host = one.where.rpartition(":")[0]
    remedy = _REMEDIES[trouble].format(where=one.where, host=host, at=_options(one.where))
    return finding(f"redis.{trouble}", words, remedy)


def _twice(most: int) -> str:
    """The command that doubles a bound, in bytes."""
    return f"REDIS_MAXMEMORY={max(1, 2 * most // _MB)}mb querycache config apply-redis"


def _held(one: Probed) -> int:
    """How many entries it holds, over its databases."""
    sizes = (value for name, value in one.info.items() if name.startswith("db"))
    counts = (size.partition("keys=")[2].partition(",")[0] for size in sizes)
    return sum(int(count) for count in counts if count.isdecimal())


def _options(where: str) -> str:
    """How redis-cli is told where."""
    host, _, port = where.rpartition(":")
    return f"-h {host.strip('[]')} -p {port}" if host else f"-s {where}"


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
