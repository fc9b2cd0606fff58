"""The checks, in the order of the guide: what each needs to have seen, and its judgement. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from querycache.ports.findings import Finding
from querycache.ports.latency import Latency
from querycache.ports.probing import Probed, Redis, passed
from querycache.usecases.diagnose import (
    judge_consistency,
    judge_figures,
    judge_redis,
    judge_surroundings,
)
from querycache.usecases.diagnose.figures import (
    Compared,
    ConfFile,
    Counts,
    Denied,
    Encryption,
    Indexed,
    Machine,
    Process,
    Settings,
    Store,
    Thresholds,
)

_MB = 1024 * 1024


class Looked(msgspec.Struct):
    """What was looked at; what was not, or not in time, has its default."""

    redis: Redis | None = None
    store: Store | None = None
    processes: tuple[Process, ...] = ()
    compared: Compared = Compared()
    projects: tuple[Indexed, ...] = ()
    encryption: Encryption = Encryption()
    denied: Denied = Denied()
    settings: Settings = Settings()
    machine: Machine = Machine()
    redis_conf: ConfFile = ConfFile()

    @property
    def counts(self) -> list[Counts]:
        return [one.counts for one in self.processes]

    @property
    def servers(self) -> Redis:
        return self.redis or Redis(())


class Judged(NamedTuple):
    """What a check found, and what it saw."""

    findings: list[Finding]
    seen: Sequence[str] = ()


class Check(NamedTuple):
    """A check. `needs` are fields of `Looked`, `ttl_s` the life of an entry."""

    name: str
    needs: tuple[str, ...]
    judge: Callable[[Looked, Thresholds, float], Judged]


def _connection(looked: Looked, _t: Thresholds, _ttl_s: float) -> Judged:
    found, seen = judge_redis.connection(looked.servers), judge_redis.seen(looked.servers)
    store = looked.store
    if store is not None and store.connected and looked.redis is None:
        held = "" if store.entries is None else f", {store.entries:,} entries"
        seen.append(f"L2 is {store.backend} {store.where}{held}")
    return Judged(found, seen)


def _tls(looked: Looked, _t: Thresholds, _ttl_s: float) -> Judged:
    seen = judge_redis.seen_certificates(looked.servers)
    found = judge_redis.tls(looked.servers)
    return Judged(found, seen or ([] if found else ["not in use"]))


def _latency(looked: Looked, t: Thresholds, _ttl_s: float) -> Judged:
    slow = judge_redis.pings(looked.servers, t) or judge_figures.slow_reads(looked.counts, t)
    seen = [f"{one.where}: PING {judge_redis.spread(one)}" for one in _answering(looked)]
    kinds = judge_figures.by_kind(looked.counts).values()
    for tier in ("l1", "l2"):
        each: list[Latency] = [getattr(one, tier) for several in kinds for one in several]
        whole = Latency.together(each)
        if whole.count:
            times = judge_figures.percentiles(whole)
            seen.append(f"{tier.upper()} reads: {times} ({whole.count:,} timed)")
    return Judged(slow, seen or ["no read was timed yet"])


def _hit_rate(looked: Looked, t: Thresholds, _ttl_s: float) -> Judged:
    counts = looked.counts
    found = judge_figures.hit_rate(counts, t)
    if looked.servers.usable:  # what fails of a Redis that is down is told above
        found += judge_figures.failures(counts, t)
    kinds = judge_figures.by_kind(counts).items()
    seen = [
        f"{kind}: {sum(k.hits for k in several):,} hits, {sum(k.misses for k in several):,} misses"
        for kind, several in kinds
        if sum(k.hits + k.misses for k in several)
    ]
    return Judged(found, seen or ["no living process has read anything yet"])


def _memory(looked: Looked, t: Thresholds, _ttl_s: float) -> Judged:
    servers, machine = looked.servers, looked.machine.memory
    found = judge_redis.bound(servers) + judge_redis.full(servers, t)
    short: list[Finding] = []
    for one in looked.processes:
        if one.memory is not None:
            short += judge_figures.pressure(one.who, one.memory, t)
    found += short or judge_figures.pressure("this machine", machine, t)
    seen = judge_redis.seen_memory(servers)
    limit = f"{machine.used / _MB:,.0f} of {machine.limit / _MB:,.0f} MB ({machine.source})"
    seen.append(f"memory here: {limit}, this process {machine.rss / _MB:,.0f} MB")
    seen += [
        f"{one.who}: {one.memory.rss / _MB:,.0f} MB" for one in looked.processes if one.memory
    ]
    return Judged(found, seen)


def _leak(looked: Looked, _t: Thresholds, _ttl_s: float) -> Judged:
    return Judged(judge_figures.leaks(looked.processes), ["no process says that it grows"])


def _eviction(looked: Looked, t: Thresholds, ttl_s: float) -> Judged:
    found = judge_redis.evictions(looked.servers, ttl_s)
    found = found or judge_figures.evicted(looked.counts, t)
    seen = [
        f"{one.where}: {one.number('evicted_keys'):,} evicted, {one.number('expired_keys'):,}"
        " expired"
        for one in _answering(looked)
    ]
    seen += [
        f"{one.who}: L1 evicted {one.counts.l1_evictions:,}, holds {one.counts.l1_size:,} of"
        f" {one.counts.l1_max_size:,}"
        for one in looked.processes
    ]
    return Judged(found, seen or ["nothing was evicted"])


def _coherency(looked: Looked, _t: Thresholds, _ttl_s: float) -> Judged:
    compared = looked.compared
    where = "no process has an L1 to compare"
    if compared.processes:
        where = f"{compared.entries:,} entries of L1 compared, of {compared.processes} processes"
    seen = [where]
    if compared.silent:
        seen.append(f"did not answer: {', '.join(compared.silent)}")
    return Judged(judge_consistency.coherency(compared), seen)


def _invalidation(looked: Looked, t: Thresholds, _ttl_s: float) -> Judged:
    processes = looked.processes
    here = Process("this process", lag_ms=looked.store.lag_ms if looked.store else None)
    late = judge_consistency.lag([*processes, here], t) if looked.servers.usable else []
    dead = judge_consistency.watchers(processes)
    stale = [] if dead else judge_consistency.stale(looked.projects, processes)
    seen = [
        f"{one.name}: {one.stale_files:,} files differ from the index"
        + (", which is kept up to date" if one.held else ", until it is searched again")
        for one in looked.projects
    ]
    seen += [
        f"{one.who}: an invalidation takes {one.lag_ms:.1f} ms"
        for one in (*processes, here)
        if one.lag_ms is not None
    ]
    return Judged([*late, *dead, *stale], seen or ["no project is indexed"])


def _encryption(looked: Looked, _t: Thresholds, _ttl_s: float) -> Judged:
    sealed = looked.encryption.kinds
    found = [*looked.encryption.findings]
    found += judge_consistency.damage(looked.processes, looked.compared)
    told = f"on, for {', '.join(sealed)}" if sealed else "off"
    return Judged(found, [f"encryption is {told}"])


def _access(looked: Looked, t: Thresholds, _ttl_s: float) -> Judged:
    denied = looked.denied
    seen = [f"{denied.count:,} refusals in the audit log in the last {denied.window_s:g} s"]
    return Judged(judge_surroundings.access(denied, t), seen)


def _config(looked: Looked, _t: Thresholds, _ttl_s: float) -> Judged:
    return Judged(judge_surroundings.settings(looked.settings), ["the settings can be read"])


def _redis_conf(looked: Looked, _t: Thresholds, _ttl_s: float) -> Judged:
    file = looked.redis_conf
    seen = file.path if file.text is not None else "no file to look at"
    return Judged(judge_surroundings.redis_conf(file), [seen])


def _clock(looked: Looked, t: Thresholds, _ttl_s: float) -> Judged:
    seen = [
        f"{one.where}: {one.ahead_s * 1000:+.1f} ms"
        for one in _answering(looked)
        if one.ahead_s is not None
    ]
    return Judged(judge_redis.clock(looked.servers, t), seen or ["no other clock to compare"])


def _system(looked: Looked, t: Thresholds, _ttl_s: float) -> Judged:
    machine = looked.machine
    found = judge_surroundings.disk(machine, t)
    found = found or judge_surroundings.store(machine, looked.store)
    free = machine.free_bytes
    seen = [] if free is None else [f"{machine.home}: {free / _MB:,.0f} MB are free"]
    return Judged(found, seen)


def _answering(looked: Looked) -> list[Probed]:
    return passed(looked.servers.servers)


CHECKS = (
    Check("connection", ("redis", "store"), _connection),
    Check("tls", ("redis",), _tls),
    Check("latency", ("redis", "processes"), _latency),
    Check("hit rate", ("redis", "processes"), _hit_rate),
    Check("memory", ("redis", "processes", "machine"), _memory),
    Check("leak", ("processes",), _leak),
    Check("eviction", ("redis", "processes"), _eviction),
    Check("coherency", ("compared",), _coherency),
    Check("invalidation", ("redis", "store", "processes", "projects"), _invalidation),
    Check("encryption", ("encryption", "processes", "compared"), _encryption),
    Check("access", ("denied",), _access),
    Check("config", ("settings",), _config),
    Check("redis.conf", ("redis_conf",), _redis_conf),
    Check("clock", ("redis",), _clock),
    Check("system", ("machine", "store"), _system),
)
"""In the guide's order."""
