"""Figures in, findings out: at every edge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from querycache.ports.findings import Finding
from querycache.ports.latency import Latency
from querycache.ports.probing import Probed, Redis, Trouble
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
    Indexed,
    KindFigures,
    Machine,
    Memory,
    Process,
    Store,
    Thresholds,
    Vitals,
    Watching,
)
from querycache.usecases.diagnose.names import KNOWN
from querycache.usecases.diagnose.vitals import quick

T = Thresholds()
MB = 1024 * 1024


def names(found: Sequence[Finding]) -> list[str]:
    """The names, each of which is known, with words in both parts."""
    assert all(one.name in KNOWN and one.evidence and one.remedy for one in found)
    assert all("\n" not in one.evidence + one.remedy for one in found)
    return [one.name for one in found]


def reads(hits: int, misses: int, kind: str = "search", **reasons: int) -> Counts:
    return Counts({kind: KindFigures(l1_hits=hits, misses=misses, reasons=reasons)})


@pytest.mark.parametrize(
    ("counts", "low"),
    [
        (reads(0, 99), False),
        (reads(0, 100), True),
        (reads(60, 40), False),
        (reads(59, 41), True),
        (reads(0, 500, "embedding", absent=500), False),
        (reads(0, 500, "embedding", absent=300, expired=200), True),
        (reads(0, 500, "file", absent=450), False),
        (reads(10, 500, "search", l2_down=500), False),
        (reads(10, 500, "search", disabled=500), False),
    ],
)
def test_the_hit_rate_is_judged_after_100_reads(counts: Counts, *, low: bool):
    assert names(judge_figures.hit_rate([counts], T)) == ["hit_rate.low"] * low


def test_a_low_hit_rate_names_the_kinds_and_why():
    counts = [reads(10, 90, expired=60, absent=30), reads(90, 10, "other", absent=10)]
    (found,) = judge_figures.hit_rate(counts, T)
    assert found.evidence == (
        "50.0% of 200 reads hit, fewer than 60%:"
        " search 10% of 100 (misses: 60 expired, 30 absent); other 90% of 100 (misses: 10 absent)"
    )
    assert "TTL" in found.remedy


@pytest.mark.parametrize(
    ("errors", "done", "high"), [(5, 99, False), (5, 100, False), (6, 100, True), (0, 100, False)]
)
def test_failures_are_judged_after_100_operations(errors: int, done: int, *, high: bool):
    counts = Counts({"other": KindFigures(l1_hits=done, errors=errors)})
    assert names(judge_figures.failures([counts], T)) == ["errors.high"] * high


@pytest.mark.parametrize(("took_s", "times", "slow"), [(0.2, 19, False), (0.2, 20, True)])
def test_slow_reads_are_judged_after_20(took_s: float, times: int, *, slow: bool):
    latency = Latency()
    for _ in range(times):
        latency.observe(took_s)
    counts = [Counts({"other": KindFigures(l2=latency)})]
    found = judge_figures.slow_reads(counts, T)
    assert names(found) == ["latency.high"] * slow
    assert all("p95" in one.evidence for one in found)


@pytest.mark.parametrize(
    ("used", "source", "severity"),
    [
        (79, "cgroup", None),
        (80, "cgroup", "warning"),
        (90, "address space", "error"),
        (89, "system", None),
        (90, "system", "error"),
    ],
)
def test_memory_that_is_short(used: int, source: str, severity: str | None):
    memory = Memory(used * MB, 100 * MB, source, 50 * MB)
    found = judge_figures.pressure("serve 1", memory, T)
    assert [one.severity for one in found] == ([severity] if severity else [])
    assert names(found) == ["memory.pressure"] * len(found)
    assert judge_figures.pressure("serve 1", Memory(), T) == []


@pytest.mark.parametrize(("gone", "many"), [(19, False), (20, True)])
def test_misses_of_what_was_evicted(gone: int, *, many: bool):
    found = judge_figures.evicted([reads(100 - gone, gone, evicted=gone)], T)
    assert names(found) == ["evictions.high"] * many


def probed(
    info: Mapping[str, str] | None = None,
    trouble: Trouble | None = None,
    pings: Sequence[float] = (1.0,),
    ahead_s: float = 0.0,
) -> Redis:
    return Redis((Probed("h:1", trouble, "words", True, tuple(pings), ahead_s, info or {}),))


@pytest.mark.parametrize(
    ("pings", "slow"),
    [([50.0] * 10, False), ([50.1] * 10, True), ([1.0] * 6 + [900.0] * 4, False), ([], False)],
)
def test_pings_that_are_slow(pings: list[float], *, slow: bool):
    assert names(judge_redis.pings(probed(pings=pings), T)) == ["latency.high"] * slow


@pytest.mark.parametrize(("ahead_s", "wrong"), [(5.0, False), (5.1, True), (-5.1, True)])
def test_clocks_that_differ(ahead_s: float, *, wrong: bool):
    assert names(judge_redis.clock(probed(ahead_s=ahead_s), T)) == ["clock.skew"] * wrong


@pytest.mark.parametrize(
    ("info", "wrong"),
    [
        ({}, False),
        ({"maxmemory": "0", "maxmemory_policy": "allkeys-lru"}, True),
        ({"maxmemory": "1", "maxmemory_policy": "noeviction"}, True),
        ({"maxmemory": "1", "maxmemory_policy": "volatile-lru"}, False),
    ],
)
def test_servers_without_a_bound(info: Mapping[str, str], *, wrong: bool):
    assert names(judge_redis.bound(probed(info))) == ["redis.maxmemory"] * wrong


def test_a_server_without_a_bound_is_never_full():
    (found,) = judge_redis.bound(probed({"maxmemory": "0", "maxmemory_policy": "noeviction"}))
    assert "maxmemory is 0" in found.evidence
    assert "noeviction" not in found.evidence


def test_the_remedy_of_a_server_that_is_too_small_is_a_larger_one():
    info = {"used_memory": str(8191 * MB), "maxmemory": str(8192 * MB)}
    (found,) = judge_redis.full(probed({**info, "maxmemory_policy": "noeviction"}), T)
    assert found.remedy == "REDIS_MAXMEMORY=16384mb querycache config apply-redis"
    evicting = {"evicted_keys": "1000", "uptime_in_seconds": "9", "db0": "keys=9,expires=1"}
    (found,) = judge_redis.evictions(probed({**info, **evicting}), 3600.0)
    assert found.remedy == "REDIS_MAXMEMORY=16384mb querycache config apply-redis"


def test_the_remedy_of_an_l1_that_is_too_small_is_a_larger_one():
    small = reads(0, 200, evicted=200)
    counts = Counts(small.kinds, l1_max_size=5000, l1_max_bytes=600 * MB)
    larger = "export MEMORY_CACHE_MAX_SIZE=10000 MEMORY_CACHE_MAX_MEMORY_MB=1200"
    (found,) = judge_figures.evicted([counts], T)
    assert found.remedy == larger
    (found,) = judge_figures.hit_rate([counts], T)
    assert found.remedy == f"{larger} # and look at evictions.high"
    (found,) = judge_figures.evicted([small], T)
    assert found.remedy == "raise MEMORY_CACHE_MAX_SIZE and MEMORY_CACHE_MAX_MEMORY_MB"


def test_remedies_can_be_pasted_whatever_folders_are_called():
    root = "/my shop"
    (found,) = judge_consistency.stale([Indexed("shop", root, 1, held=True)], [])
    assert found.remedy == "querycache index '/my shop'"
    dead = Process("serve 7", watching=(Watching("shop", root, alive=False, error="gone"),))
    (found,) = judge_consistency.watchers([dead])
    assert "querycache serve '/my shop' #" in found.remedy
    (found,) = judge_surroundings.disk(Machine(home=root, free_bytes=1, total_bytes=2), T)
    assert found.remedy.startswith("du -xsh '/my shop'/* #")
    (found,) = judge_surroundings.store(Machine(home=root, home_error="no"), None)
    assert found.remedy.startswith("ls -ld '/my shop' #")
    (found,) = judge_surroundings.redis_conf(ConfFile("/my redis.conf", "tcp-nodelay yes"))
    assert found.remedy.startswith("querycache config check '/my redis.conf' #")
    (found,) = judge_surroundings.access(Denied(5, 300, "bob", "/my data/audit.jsonl"), T)
    assert found.remedy.startswith("tail '/my data/audit.jsonl' #")


@pytest.mark.parametrize(
    ("used", "policy", "severity"),
    [
        (79, "noeviction", None),
        (80, "noeviction", "warning"),
        (90, "noeviction", "error"),
        (99, "allkeys-lru", None),
    ],
)
def test_servers_that_are_full(used: int, policy: str, severity: str | None):
    info = {"maxmemory": "100", "used_memory": str(used), "maxmemory_policy": policy}
    found = judge_redis.full(probed(info), T)
    assert [one.severity for one in found] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("evicted", "held", "uptime", "many"),
    [
        (99, 10, 10, False),
        (100, 10, 10, True),
        (100, 101, 10, False),
        (1000, 100, 18_000, False),  # one lasts 1,800 s, half of its life
        (1000, 100, 17_990, True),
    ],
)
def test_evictions_long_before_their_time(evicted: int, held: int, uptime: int, *, many: bool):
    info = {
        "evicted_keys": str(evicted),
        "uptime_in_seconds": str(uptime),
        "db0": f"keys={held},expires=1",
    }
    assert names(judge_redis.evictions(probed(info), 3600.0)) == ["evictions.high"] * many


def test_each_trouble_of_a_server_has_a_finding_of_its_own():
    troubles: tuple[Trouble, ...] = (
        "unreachable",
        "hung",
        "auth",
        "tls.plain_server",
        "tls.required",
        "tls.ca",
        "tls.expired",
        "tls.hostname",
        "tls.client_cert",
        "tls.failed",
    )
    for trouble in troubles:
        redis = probed(trouble=trouble)
        both = judge_redis.connection(redis) + judge_redis.tls(redis)
        assert names(both) == [f"redis.{trouble}"]
        assert "{" not in both[0].remedy
        judged = [
            judge_redis.bound(redis),
            judge_redis.pings(redis, T),
            judge_redis.clock(redis, T),
        ]
        assert not any(judged)


@pytest.mark.parametrize(("lag_ms", "late"), [(1000.0, False), (1000.1, True), (None, False)])
def test_news_that_are_late(lag_ms: float | None, *, late: bool):
    listed = [
        Process("serve 1", lag_ms=lag_ms),
        Process("serve 1", watching=(Watching("shop", "/shop", lag_ms_p50=lag_ms),)),
    ]
    for process in listed:
        assert names(judge_consistency.lag([process], T)) == ["invalidation.lag"] * late


@pytest.mark.parametrize(
    ("states", "dead"),
    [
        ([Watching("shop", "/shop", watching=True)], False),
        ([Watching("shop", "/shop", watching=False)], True),
        ([Watching("shop", "/shop", watching=True, error="no inotify watches are left")], True),
        ([Watching("shop", "/shop", watching=True, alive=False)], True),
        ([Watching("shop", "/shop"), Watching("shop", "/shop", watching=True)], False),
    ],
)
def test_watchers(states: list[Watching], *, dead: bool):
    processes = [Process(f"serve {at}", watching=(one,)) for at, one in enumerate(states)]
    assert names(judge_consistency.watchers(processes)) == ["watcher.dead"] * dead


def test_a_stale_index_is_one_that_somebody_keeps():
    held, free = (Indexed("shop", "/shop", 1, held) for held in (True, False))
    assert names(judge_consistency.stale([held], [])) == ["index.stale"]
    assert judge_consistency.stale([free], []) == []
    (found,) = judge_consistency.stale([held], [Process("serve 7", stopped=True)])
    assert found.remedy.startswith("kill -CONT 7")


def test_damage_is_told_from_difference():
    unreadable = Compared(1, (), 5, ("k",), {"unreadable": 1})
    older = Compared(1, (), 5, ("k",), {"older": 1})
    assert names(judge_consistency.damage([], unreadable)) == ["crypto.tampered"]
    assert judge_consistency.coherency(unreadable) == []
    assert names(judge_consistency.coherency(older)) == ["coherency.mismatch"]
    assert judge_consistency.damage([], older) == []
    for reason, name in (
        ("bad_seal", ["crypto.tampered"]),
        ("bad_checksum", ["crypto.tampered"]),
        ("unknown_key", ["crypto.unknown_key"]),
        ("sealed", ["crypto.unknown_key"]),
        ("bad_version", []),
        ("unsealed", []),
    ):
        found = judge_consistency.damage([Process("p", damaged={reason: 1})], Compared())
        assert names(found) == name


def test_what_is_around_the_cache():
    for count, much in ((4, False), (5, True)):
        found = judge_surroundings.access(Denied(count, 300, "bob"), T)
        assert names(found) == ["access.denied"] * much
    for free, little in ((T.disk_bytes - 1, True), (T.disk_bytes, False), (None, False)):
        machine = Machine(home="/h", free_bytes=free, total_bytes=1)
        assert names(judge_surroundings.disk(machine, T)) == ["disk.full"] * little
    broken = Store("sqlite", connected=False, error="malformed")
    assert names(judge_surroundings.store(Machine(), broken)) == ["store.unusable"]
    assert judge_surroundings.store(Machine(), Store("redis", connected=False)) == []


@pytest.mark.parametrize(
    ("vitals", "expected"),
    [
        (Vitals(), []),
        (Vitals(redis="up", ping_ms=50.0, lag_ms=1000.0), []),
        (Vitals(redis="down", words="refused", ping_ms=None), ["redis.unreachable"]),
        (Vitals(redis="up", ping_ms=50.1), ["latency.high"]),
        (Vitals(reads(0, 100)), ["hit_rate.low"]),
        (Vitals(memory=Memory(80, 100, "cgroup")), ["memory.pressure"]),
        (Vitals(Counts({"other": KindFigures(l1_hits=100, errors=6)})), ["errors.high"]),
        (Vitals(redis="up", lag_ms=1000.1), ["invalidation.lag"]),
        (Vitals(mismatches=1), ["coherency.mismatch"]),
        (
            Vitals(
                Counts({"other": KindFigures(l1_hits=100, errors=90)}), redis="down", where="h"
            ),
            ["redis.unreachable"],
        ),
    ],
)
def test_the_monitors_seven(vitals: Vitals, expected: list[str]):
    assert names(quick(vitals, T)) == expected


def test_the_how_to_page_has_the_table_of_names():
    page = (Path(__file__).parents[4] / "docs" / "how-to" / "doctor.md").read_text()
    for known in KNOWN.values():
        row = f"| `{known.name}` | {known.severity} | {known.means} | {known.section} |"
        assert row in page
