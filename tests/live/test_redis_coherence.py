"""Processes that share a real Redis: none serves what another replaced, whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import threading
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.live.redis_process import ALL, KEYS, POLICY, core_over, tier_of
from tests.live.sqlite_process import CLOCK, Event
from tests.live.test_sqlite_processes import Verdict
from tests.redis_kit import RedisServer, cluster, redis_server, until
from tests.redis_tier_kit import (
    PREFIX,
    UNTRACKED,
    entry,
    forbid_tracking,
    tier_at,
    told,
    two_tiers,
    value,
)

from querycache.cache.two_tier import TwoTier
from querycache.errors import TierError
from querycache.tiers.redis import RedisTier
from querycache.tiers.redis.cluster import ClusterLink
from querycache.tiers.redis.connection import Limits
from querycache.tiers.redis.endpoint import Endpoint
from querycache.tiers.redis.link import Greeting, Link, Listener, RefusedError
from querycache.tiers.redis.names import Names

pytestmark = [pytest.mark.asyncio, pytest.mark.live, pytest.mark.alone]

ROOT = Path(__file__).parents[2]
NAMES = Names(PREFIX)
BOUND_S = 0.05
BUSY_S = 0.5
"""The bound where the machine may be busy with other tests."""


# --- many processes ----------------------------------------------------------------------------


@asynccontextmanager
async def started(*arguments: str) -> AsyncGenerator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-m", "tests.live.redis_process", *arguments),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 28,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line(process: Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


async def release(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    await process.stdin.drain()


class Outcome(NamedTuple):
    """What four processes did: `late` counts reads of what had been replaced for longer than the
    bound.
    """

    verdict: Verdict
    late: int
    diverged: int
    hits: int
    errors: int


async def coherence(
    server: RedisServer,
    seconds: float,
    share: float,
    *,
    user: str = "",
    bound_s: float = BUSY_S,
) -> Outcome:
    common = (str(server.port), user or "-")
    arguments = [("coherent_load", *common, f"p{n}", str(seconds), str(share)) for n in range(4)]
    async with (
        started(*arguments[0]) as first,
        started(*arguments[1]) as second,
        started(*arguments[2]) as third,
        started(*arguments[3]) as fourth,
    ):
        processes = (first, second, third, fourth)
        for wanted in ("open", "done"):
            for process in processes:
                assert await line(process) == wanted
            if wanted == "done":
                await asyncio.sleep(1.0)  # quiet
            for process in processes:
                await release(process)
        reports = [json.loads(await line(process)) for process in processes]
    events = [Event(*event) for report in reports for event in report["events"]]
    last: list[dict[str, str]] = [report["last"] for report in reports]
    verdict = Judged(events, bound_s)
    outcome = Outcome(
        verdict,
        verdict.late,
        sum(len({held[key] for held in last}) > 1 for key in last[0]),
        sum(report["hits"] for report in reports),
        sum(report["errors"] for report in reports),
    )
    sys.stderr.write(
        f"\n{share:.0%} writes{' by messages' if user else ''}: {verdict.reads} reads,"
        f" {outcome.hits} from L1, {verdict.stale} stale"
        f" ({100 * verdict.stale / max(1, verdict.reads):.3f} %), at most"
        f" {1000 * verdict.longest_s:.1f} ms, {outcome.diverged} diverged,"
        f" {outcome.errors} errors; worst lag"
        f" {max(report['lag'] or 0.0 for report in reports):.1f} ms\n"
    )
    return outcome


class Judged(Verdict):
    """Counts also what was stale for longer than the bound."""

    def __init__(self, events: Sequence[Event], bound_s: float) -> None:
        self.late = 0
        self._bound_s = bound_s
        super().__init__(events)

    def _judge(self, read: Event, origin: Event, writes: Sequence[Event]) -> None:
        before, longest, self.longest_s = self.stale, self.longest_s, 0.0
        super()._judge(read, origin, writes)
        self.late += self.stale > before and self.longest_s > self._bound_s
        self.longest_s = max(longest, self.longest_s)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
async def test_no_process_keeps_what_another_replaced(share: float) -> None:
    async with redis_server() as server:
        outcome = await coherence(server, 2.0, share)
    assert outcome.verdict.reads > 500
    assert outcome.hits > 100
    assert (outcome.late, outcome.verdict.future, outcome.diverged, outcome.errors) == (0, 0, 0, 0)


async def test_no_process_keeps_it_either_where_nobody_may_track() -> None:
    async with redis_server() as server:
        await forbid_tracking(server)
        outcome = await coherence(server, 2.0, 0.1, user=UNTRACKED)
    assert outcome.hits > 100
    assert (outcome.late, outcome.verdict.future, outcome.diverged, outcome.errors) == (0, 0, 0, 0)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
async def test_no_process_ever_keeps_what_another_replaced(share: float) -> None:
    for _ in range(10):
        async with redis_server() as server:
            outcome = await coherence(server, 20.0, share, bound_s=BOUND_S)
        assert (outcome.late, outcome.verdict.future, outcome.diverged) == (0, 0, 0)


# --- a reply that is held back -----------------------------------------------------------------


@asynccontextmanager
async def two_cores(server: RedisServer) -> AsyncGenerator[tuple[TwoTier, TwoTier]]:
    ours, theirs = tier_at(server), tier_at(server)
    cores = core_over(ours), core_over(theirs)
    try:
        for core in cores:
            await core.get("connected", POLICY)
        yield cores
    finally:
        for core, tier in zip(cores, (ours, theirs), strict=True):
            await core.close()
            await tier.close()


def transport_of(tier: RedisTier) -> asyncio.Transport:
    """The transport under the running loop's only connection."""
    node: Any = tier._asker.link().nodes()[0]  # pyright: ignore[reportPrivateUsage]  # to hold it up
    return node.connection._transport


def tier_of_core(core: TwoTier) -> RedisTier:
    assert isinstance(core.l2, RedisTier)
    return core.l2


async def held_reply(ours: TwoTier, theirs: TwoTier, key: str, number: int) -> bool:
    """Reads while another process replaces; the old reply and the news arrive together. Whether
    the old value was what the reader got.
    """
    await theirs.put({key: f"old {number}"}, POLICY, tags=ALL)
    tier = tier_of_core(ours)
    await told(tier)
    await ours.generations.learn(ALL)  # so that a look is one command
    ours.l1.clear()
    transport = transport_of(tier)
    transport.pause_reading()
    reading = asyncio.ensure_future(ours.get(key, POLICY))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # it has left
    await tier_of_core(theirs).read(["a barrier"])
    change = random.Random(number).choice(("put", "remove", "invalidate"))
    if change == "put":
        await theirs.put({key: f"new {number}"}, POLICY, tags=ALL)
    elif change == "remove":
        await theirs.remove([key])
    else:
        await theirs.invalidate(ALL)
    transport.resume_reading()
    found = (await reading).value
    assert found in {f"old {number}", None}, (number, change, found)
    wanted = f"new {number}" if change == "put" else None
    assert (await ours.get(key, POLICY)).value == wanted, (number, change)
    assert ours.l1.info().size <= 1
    return found is not None


async def test_a_reply_that_an_invalidation_overtook_is_not_kept() -> None:
    async with redis_server() as server, two_cores(server) as (ours, theirs):
        old = [await held_reply(ours, theirs, KEYS[n % 3], n) for n in range(50)]
        assert any(old)


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_none_of_a_thousand_such_replies_is_kept() -> None:
    async with redis_server() as server, two_cores(server) as (ours, theirs):
        old = [await held_reply(ours, theirs, KEYS[n % 3], n) for n in range(1000)]
        assert sum(old) > 500


async def change(tier: RedisTier, number: int) -> None:
    """One of the three changes that are told."""
    if number % 3 == 0:
        await tier.write([entry("k")])
    elif number % 3 == 1:
        await tier.remove(["k"])
    else:
        await tier.bump(["t"])


async def test_what_the_server_did_is_not_asked_again_when_its_reply_is_lost() -> None:
    async with redis_server() as server:
        tier = tier_at(server, limits=Limits(deadline_s=0.2))

        async def connected() -> bool:
            return (await tier.info()).connected

        for number in range(12):
            await until(connected, "a connection")
            await tier.read(["k"])
            before = int(await server.ask("GET", NAMES.sequence) or 0)
            transport_of(tier).pause_reading()
            with pytest.raises(TierError):
                await change(tier, number)
            assert int(await server.ask("GET", NAMES.sequence)) == before + 1
        await tier.close()


# --- memory, restarts --------------------------------------------------------------------------


async def test_out_of_memory_nobody_reads_what_was_replaced() -> None:
    async with (
        redis_server("--maxmemory-policy", "noeviction") as server,
        two_cores(server) as (ours, theirs),
    ):
        for key in KEYS:
            await ours.put({key: "old"}, POLICY, tags=ALL)
            assert (await theirs.get(key, POLICY)).value == "old"
        await server.ask("CONFIG", "SET", "maxmemory", "500kb")
        for key in KEYS:
            await ours.put({key: "new"}, POLICY, tags=ALL)
            await told(tier_of_core(ours))
            assert (await ours.get(key, POLICY)).value in {"new", None}
            await tier_of_core(theirs).read(["a barrier"], fenced=False)
            assert (await theirs.get(key, POLICY)).value in {"new", None}
        with pytest.raises(RefusedError, match="OOM"):
            await tier_of_core(ours).write([entry("k")])
        assert await tier_of_core(ours).remove(["absent"]) == 0
        await ours.invalidate(ALL)
        assert (await theirs.l2.info()).connected
        await server.ask("CONFIG", "SET", "maxmemory", "0")
        await ours.put({KEYS[0]: "newest"}, POLICY, tags=ALL)
        await tier_of_core(theirs).read(["a barrier"], fenced=False)
        assert (await theirs.get(KEYS[0], POLICY)).value in {"newest", None}


async def test_evicted_counters_and_versions_make_nothing_valid_again() -> None:
    async with redis_server() as server, two_cores(server) as (ours, theirs):
        for number in range(20):
            key = KEYS[number]
            await ours.put({key: "old"}, POLICY, tags=ALL)
            await server.ask("DEL", NAMES.counter("all"))
            await theirs.invalidate(ALL)
            await server.ask("DEL", NAMES.counter("all"))
            for core in (ours, theirs):
                await told_core(core)
                assert (await core.get(key, POLICY)).value is None


async def told_core(core: TwoTier) -> None:
    """What was acknowledged to anyone is pending here from now on."""
    await tier_of_core(core).read(["a barrier"], fenced=False)


async def test_a_server_that_comes_back_empty_brings_nothing_old_back() -> None:
    async with redis_server() as server, two_cores(server) as (ours, theirs):
        await ours.put({KEYS[0]: "old"}, POLICY, tags=ALL)
        assert (await theirs.get(KEYS[0], POLICY)).value == "old"
        await server.restart()

        async def back() -> bool:
            return (await ours.l2.info()).connected and (await theirs.l2.info()).connected

        await until(back, "both are back")
        for core in (ours, theirs):
            assert (await core.get(KEYS[0], POLICY)).value is None
        await ours.settle()
        await ours.put({KEYS[0]: "new"}, POLICY, tags=ALL)
        await told_core(theirs)
        assert (await theirs.get(KEYS[0], POLICY)).value == "new"


# --- forks, loops, threads ---------------------------------------------------------------------


async def in_child(tier: RedisTier, core: TwoTier) -> str:
    """What a forked child finds, on its parent's tier."""
    if (await core.get(KEYS[0], POLICY)).value != "parent's":
        return "the parent's entry is not read"
    if not (await core.put({KEYS[1]: "child's"}, POLICY, tags=ALL))[0]:
        return "the child can't write"
    for number in range(50):
        await tier.write([entry(f"k:{number}", b"%d" % number)])
        if await value(tier, f"k:{number}") != b"%d" % number:
            return "the child reads something else"
    return "the child is deaf" if tier.backplane.drain().deaf else ""


def forked(tier: RedisTier, core: TwoTier) -> int:
    """Forks; the exit status of a child that used the tier."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            said = asyncio.run(in_child(tier, core))
            if said:
                os.write(2, said.encode())
            status = 1 if said else 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_a_forked_child_is_a_process_of_its_own() -> None:
    async with redis_server() as server, two_cores(server) as (core, _):
        tier = tier_of_core(core)
        for number in range(5):
            await core.put({KEYS[0]: "parent's"}, POLICY, tags=ALL)
            wrong = 0

            async def load(number: int = number) -> int:
                names = [f"p:{number}:{place}" for place in range(200)]
                await tier.write([entry(name, name.encode()) for name in names])
                found = [await value(tier, name) for name in names]
                return sum(data != name.encode() for data, name in zip(found, names, strict=True))

            status, wrong = await asyncio.gather(asyncio.to_thread(forked, tier, core), load())
            assert (status, wrong) == (0, 0)
            await told_core(core)
            assert (await core.get(KEYS[1], POLICY)).value == "child's"
            assert not core.generations.deaf
        pool = (await tier.info()).pool
        assert pool is not None
        assert pool.created == 1


async def test_a_loop_for_each_call_never_serves_what_was_replaced_between_two() -> None:
    async with redis_server() as server, two_tiers(server) as (other, _):
        tier = tier_of(server.port)
        core = core_over(tier)
        writer = core_over(other)
        for number in range(30):
            await writer.put({KEYS[0]: str(number)}, POLICY, tags=ALL)
            found = await asyncio.to_thread(asyncio.run, core.get(KEYS[0], POLICY))
            assert found.value == str(number)
        await asyncio.to_thread(asyncio.run, tier.close())
        said = await server.ask("CLIENT", "LIST")
        assert said.count(b"name=querycache") == 2  # those of this loop


async def test_loops_of_several_threads_share_what_they_know() -> None:
    async with redis_server() as server, two_cores(server) as (core, other):
        tier = tier_of_core(core)
        wrong: list[object] = []
        stop = threading.Event()

        async def use(name: str) -> None:
            for number in range(100):
                key = f"{PREFIX}:other:_:{name}"
                await core.put({key: number}, POLICY, tags=ALL)
                found = (await core.get(key, POLICY)).value
                if found != number:
                    wrong.append((name, number, found))
            await core.flights.close()

        async def elsewhere() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                await other.put({KEYS[2]: number}, POLICY, tags=ALL)
                await asyncio.sleep(0.001)

        busy = asyncio.ensure_future(elsewhere())
        threads = [asyncio.to_thread(asyncio.run, use(f"t{number}")) for number in range(4)]
        await asyncio.gather(use("here"), *threads)
        stop.set()
        await busy
        assert wrong == []
        await told_core(core)
        last = await tier_of_core(other).read([KEYS[2]])
        assert (await core.get(KEYS[2], POLICY)).value == (await other.get(KEYS[2], POLICY)).value
        assert last[0].data is not None
        assert not tier.backplane.drain().deaf


# --- a cluster ---------------------------------------------------------------------------------


async def test_a_cluster_is_one_tier() -> None:
    async with cluster() as group:
        seeds = [Endpoint(*node.address) for node in group.masters]

        def open_link(greeting: Greeting, listener: Listener) -> Link:
            limits = Limits(deadline_s=5.0)
            return ClusterLink(seeds, greeting, clock=CLOCK, listener=listener, limits=limits)

        ours, theirs = (
            RedisTier(open_link, prefix=PREFIX, clock=CLOCK, clustered=True) for _ in range(2)
        )
        names = [f"{PREFIX}:other:_:{number}" for number in range(300)]
        assert [read.data for read in await theirs.read(names)] == [None] * 300
        reads = await ours.read(names)
        writes = [entry(n, n.encode(), guard=r.guard) for n, r in zip(names, reads, strict=True)]
        assert await ours.write(writes) == [True] * 300
        assert await ours.write(writes) == [False] * 300
        for fenced in (True, False):
            found = await theirs.read([*reversed(names), "absent"], fenced=fenced)
            assert [read.data for read in found] == [n.encode() for n in reversed(names)] + [None]
        keys: set[str] = set()

        async def heard() -> bool:
            keys.update(theirs.backplane.drain().keys)
            return keys == set(names)

        await until(heard, "all is heard")
        moved = await ours.bump([f"t{number}" for number in range(50)])
        assert await theirs.stamps([*moved]) == moved
        listed = [one.key async for one in theirs.scan(f"{PREFIX}:")]
        assert sorted(listed) == sorted(names)
        assert await ours.remove(names[:100]) == 100
        assert await theirs.purge(f"{PREFIX}:other:") == 200
        info = await ours.info()
        assert (info.connected, info.where.count(",")) == (True, 2)
        token = await ours.lease("k", 60.0)
        assert token
        assert await theirs.lease("k", 60.0) is None
        await ours.release("k", token)
        await ours.close()
        await theirs.close()
