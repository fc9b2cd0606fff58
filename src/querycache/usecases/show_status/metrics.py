"""The metrics of one process: the one table of their declarations, and their values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import get_args

import msgspec

from querycache import events
from querycache.ports.latency import Latency
from querycache.ports.memory import Reading
from querycache.ports.metrics import Measured, Metric
from querycache.usecases.show_status.counts import KindCounts, Snapshot
from querycache.usecases.show_status.health import Health, Status
from querycache.usecases.show_status.savings import savings
from querycache.values import Kind

_KIND = {"kind": tuple(map(str, Kind))}
_TIERS = ("l1", "l2")
_REASONS: tuple[str, ...] = get_args(events.MissReason)
_OPERATIONS = ("open", "read", "write", "remove", "bump", "stamps", "other")
_BACKENDS = ("none", "sqlite", "redis", "other")
_ASKED = {"what": ("asked", "sent")}
_STATUSES: tuple[str, ...] = get_args(Status)
_EVENTS = tuple(event.__name__ for event in events.Event.__subclasses__())

Value = float | Latency
Samples = list[tuple[tuple[str, ...], Value]]


class Seen(msgspec.Struct, frozen=True):
    """What the metrics are read from: one look at a process.

    `happened` counts its events by type, `failed` what L2 failed at, by operation; `price` is that
    of a million tokens.
    """

    snapshot: Snapshot
    health: Health
    memory: Reading
    happened: Mapping[str, int]
    failed: Mapping[str, int]
    started: float
    price: float


Read = Callable[[Seen], Samples]


def measured(seen: Seen) -> Iterator[Measured]:
    """Each metric with its samples; those of which nothing is known have none."""
    for metric, read in _TABLE:
        yield Measured(metric, read(seen))


# --- how a value is read ---------------------------------------------------------------------


def _of_kinds(value: Callable[[KindCounts], Value]) -> Read:
    def read(seen: Seen) -> Samples:
        kinds = seen.snapshot.kinds
        return [((kind,), value(kinds.get(kind, KindCounts()))) for kind in _KIND["kind"]]

    return read


def _of_tiers(*values: Callable[[KindCounts], Value]) -> Read:
    def read(seen: Seen) -> Samples:
        kinds = seen.snapshot.kinds
        return [
            ((kind, tier), value(kinds.get(kind, KindCounts())))
            for kind in _KIND["kind"]
            for tier, value in zip(_TIERS, values, strict=True)
        ]

    return read


def _misses(seen: Seen) -> Samples:
    counts = seen.snapshot.kinds
    return [
        ((kind, reason), counts[kind].reasons.get(reason, 0) if kind in counts else 0)
        for kind in _KIND["kind"]
        for reason in _REASONS
    ]


def _one(value: Callable[[Seen], float | None]) -> Read:
    def read(seen: Seen) -> Samples:
        known = value(seen)
        return [] if known is None else [((), known)]

    return read


def _failures(seen: Seen) -> Samples:
    known = {name: seen.failed.get(name, 0) for name in _OPERATIONS[:-1]}
    other = sum(seen.failed.values()) - sum(known.values())
    return [((name,), count) for name, count in (known | {"other": other}).items()]


def _up(seen: Seen) -> Samples:
    backend = seen.health.l2_backend
    known = backend if backend in _BACKENDS else "other"
    return [((known,), float(seen.health.l2_connected))]


def _happened(seen: Seen) -> Samples:
    return [((name,), seen.happened.get(name, 0)) for name in _EVENTS]


def _tokens(seen: Seen) -> Samples:
    saved = savings([seen.snapshot], seen.price)
    return [(("sent",), saved.tokens_sent), (("saved",), saved.tokens)]


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


# --- the table -------------------------------------------------------------------------------


_TABLE: tuple[tuple[Metric, Read], ...] = (
    (
        Metric(
            "querycache_hits_total",
            "counter",
            "Reads that a tier answered.",
            {**_KIND, "tier": _TIERS},
        ),
        _of_tiers(lambda c: c.l1_hits, lambda c: c.l2_hits),
    ),
    (
        Metric(
            "querycache_misses_total",
            "counter",
            "Reads that no tier answered, by reason.",
            {**_KIND, "reason": _REASONS},
        ),
        _misses,
    ),
    (
        Metric("querycache_stale_hits_total", "counter", "Hits served past fresh life.", _KIND),
        _of_kinds(lambda c: c.stale_hits),
    ),
    (
        Metric("querycache_loads_total", "counter", "Loads from an origin.", _KIND),
        _of_kinds(lambda c: c.loads),
    ),
    (
        Metric("querycache_writes_total", "counter", "Entries stored.", _KIND),
        _of_kinds(lambda c: c.sets),
    ),
    (
        Metric("querycache_errors_total", "counter", "Failed reads, writes and loads.", _KIND),
        _of_kinds(lambda c: c.errors),
    ),
    (
        Metric(
            "querycache_saved_seconds_total",
            "counter",
            "Time that the loads of hits once took.",
            _KIND,
        ),
        _of_kinds(lambda c: c.saved_s),
    ),
    (
        Metric(
            "querycache_read_duration_seconds",
            "histogram",
            "How long a read call of a tier takes; of l1 a sample of its hits.",
            {**_KIND, "tier": _TIERS},
        ),
        _of_tiers(lambda c: c.l1, lambda c: c.l2),
    ),
    (
        Metric("querycache_load_duration_seconds", "histogram", "How long a load takes.", _KIND),
        _of_kinds(lambda c: c.load),
    ),
    (
        Metric("querycache_deletes_total", "counter", "Deletes that callers asked for."),
        _one(lambda s: s.snapshot.deletes),
    ),
    (
        Metric("querycache_l1_entries", "gauge", "Entries in L1."),
        _one(lambda s: s.snapshot.l1_size),
    ),
    (
        Metric("querycache_l1_bytes", "gauge", "Bytes in L1, overhead included."),
        _one(lambda s: s.snapshot.l1_bytes),
    ),
    (
        Metric("querycache_l1_max_bytes", "gauge", "Bytes that L1 may hold."),
        _one(lambda s: s.snapshot.l1_max_bytes),
    ),
    (
        Metric("querycache_l1_evictions_total", "counter", "Entries that L1 gave up for room."),
        _one(lambda s: s.snapshot.l1_evictions),
    ),
    (
        Metric("querycache_l2_up", "gauge", "1 while L2 answers, else 0.", {"backend": _BACKENDS}),
        _up,
    ),
    (
        Metric("querycache_l2_ping_seconds", "gauge", "How long L2 takes to answer now."),
        _one(lambda s: _seconds(s.health.l2_ping_time)),
    ),
    (
        Metric("querycache_l2_entries", "gauge", "Entries in L2."),
        _one(lambda s: s.health.l2_entries),
    ),
    (
        Metric("querycache_l2_bytes", "gauge", "Bytes that L2 uses."),
        _one(lambda s: s.health.l2_bytes),
    ),
    (
        Metric("querycache_l2_max_bytes", "gauge", "Bytes that L2 may use, where it is bounded."),
        _one(lambda s: s.health.l2_max_bytes),
    ),
    (
        Metric(
            "querycache_l2_failures_total",
            "counter",
            "Operations of L2 that failed.",
            {"operation": _OPERATIONS},
        ),
        _failures,
    ),
    (
        Metric(
            "querycache_events_total",
            "counter",
            "What happened, by type of event.",
            {"event": _EVENTS},
        ),
        _happened,
    ),
    (
        Metric(
            "querycache_invalidation_lag_seconds",
            "gauge",
            "How long an invalidation took to arrive when that was last measured.",
        ),
        _one(lambda s: _seconds(s.health.invalidation_lag_ms)),
    ),
    (
        Metric("querycache_coherency_checks_total", "counter", "Comparisons of L1 with L2."),
        _one(lambda s: s.snapshot.coherency.checks),
    ),
    (
        Metric("querycache_coherency_mismatches_total", "counter", "Entries that differed."),
        _one(lambda s: s.snapshot.coherency.mismatches),
    ),
    (
        Metric(
            "querycache_pending_entries",
            "gauge",
            "What L2 has yet to be told: writes put off, and what it missed while it was down.",
            {"what": ("dirty", "recovery")},
        ),
        lambda s: [
            (("dirty",), s.snapshot.pending.dirty),
            (("recovery",), s.snapshot.pending.recovery),
        ],
    ),
    (
        Metric(
            "querycache_embedding_texts_total",
            "counter",
            "Texts whose embedding was asked for, and those that were sent to the model.",
            _ASKED,
        ),
        lambda s: [
            (("asked",), s.snapshot.spending.texts_asked),
            (("sent",), s.snapshot.spending.texts_sent),
        ],
    ),
    (
        Metric(
            "querycache_embedding_calls_total",
            "counter",
            "Calls of the embedding model that these take, and those that were made.",
            _ASKED,
        ),
        lambda s: [
            (("asked",), s.snapshot.spending.calls_asked),
            (("sent",), s.snapshot.spending.calls_sent),
        ],
    ),
    (
        Metric(
            "querycache_embedding_tokens",
            "gauge",
            "Tokens sent to the embedding model and saved, as the server counts or estimated.",
            {"what": ("sent", "saved")},
        ),
        _tokens,
    ),
    (
        Metric(
            "querycache_saved_money",
            "gauge",
            "What the saved tokens would have cost, where QUERYCACHE_EMBEDDER_PRICE is set.",
        ),
        _one(lambda s: savings([s.snapshot], s.price).money),
    ),
    (
        Metric(
            "querycache_memory_used_bytes",
            "gauge",
            "Memory used of the tightest limit: of the cgroup, the address space, the machine.",
        ),
        _one(lambda s: s.memory.used),
    ),
    (
        Metric("querycache_memory_limit_bytes", "gauge", "That limit."),
        _one(lambda s: s.memory.limit),
    ),
    (
        Metric("querycache_resident_memory_bytes", "gauge", "Memory of this process."),
        _one(lambda s: s.memory.rss),
    ),
    (
        Metric("querycache_health", "gauge", "1 for the present status.", {"status": _STATUSES}),
        lambda s: [((name,), float(s.health.status == name)) for name in _STATUSES],
    ),
    (
        Metric("querycache_start_time_seconds", "gauge", "When the process began, Unix time."),
        _one(lambda s: s.started),
    ),
)

METRICS = tuple(metric for metric, _ in _TABLE)
"""Every metric that there is."""
