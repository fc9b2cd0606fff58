"""Failovers and resharding under load: no wrong answer, no error but `TierError`, and in time.

F10, F12, F13 and F14. The small trials run always; `soak` repeats them as often as the catalogue
of faults asks for.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from tests.link_kit import Heard, ask, link_to, put, works
from tests.redis_kit import SLOTS, Cluster, Sentinels, cluster, sentinels, until

from querycache.errors import TierError
from querycache.tiers.redis.greeting import pack
from querycache.tiers.redis.link import Link, Request
from querycache.tiers.redis.names import slot_of

pytestmark = [pytest.mark.asyncio, pytest.mark.live, pytest.mark.alone]

NAMES = [f"name:{number}" for number in range(300)]
WORKERS = 16
BATCH = 10
MOST_S = 0.3


class Load:
    """Workers that write and read over a link; each value says what it was written for.

    Attributes:
        wrong: Answers that belong to another name.
        slowest_s: The longest operation, failed or not.
        served: Operations that were answered; `failed` those that ended in a `TierError`.
        lag_s: How late the loop was at worst.
        last_failure: By the loop's time.
        why: The last error of each name.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self.wrong: list[str] = []
        self.slowest_s = 0.0
        self.served = self.failed = 0
        self.last_failure = 0.0
        self.why: dict[str, str] = {}
        self.lag_s = 0.0
        self._stop = False

    async def tick(self) -> None:
        """Finds how much later than asked for this loop runs, on a machine that is shared."""
        loop = asyncio.get_running_loop()
        while not self._stop:
            before = loop.time()
            await asyncio.sleep(0.01)
            self.lag_s = max(self.lag_s, loop.time() - before - 0.01)

    async def work(self, seed: int) -> None:
        draw = random.Random(seed)
        loop = asyncio.get_running_loop()
        number = 0
        while not self._stop:
            number += 1
            names = draw.sample(NAMES, BATCH)
            started = loop.time()
            if draw.random() < 0.3:
                requests = [put(name, f"{name}|{seed}|{number}") for name in names]
            else:
                requests = [Request(n.encode(), pack("GET", n)) for n in names]
            results = await self.link.call_many(requests)
            self.slowest_s = max(self.slowest_s, loop.time() - started)
            for name, result in zip(names, results, strict=True):
                if isinstance(result, TierError):
                    self.failed += 1
                    self.why[name] = repr(result)
                    self.last_failure = loop.time()
                    continue
                self.served += 1
                (value,) = result
                if isinstance(value, bytes) and value != b"OK":
                    if value.rpartition(b"|")[0].rpartition(b"|")[0] != name.encode():
                        self.wrong.append(f"{name}: {value!r}")
                elif value not in {None, b"OK"}:
                    self.failed += 1  # an error that the tier judges: READONLY
                    self.last_failure = loop.time()
            await asyncio.sleep(0.001)

    def stop(self) -> None:
        self._stop = True


@asynccontextmanager
async def loaded(link: Link) -> AsyncGenerator[Load]:
    """Inside, the workers run; whatever they raise fails the test, and so does a wrong answer."""
    load = Load(link)
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 -- to run it again
    async with asyncio.TaskGroup() as group:
        for number in range(WORKERS):
            group.create_task(load.work(seed + number))
        group.create_task(load.tick())
        await until(lambda: _true(load.served > 100), "the load runs")
        yield load
        load.stop()
    assert not load.wrong
    assert load.slowest_s < MOST_S + 2 * load.lag_s  # a timer fires late, and is late seen


async def _true(said: bool) -> bool:  # noqa: FBT001 -- a condition
    return said


async def serving(load: Load, patience_s: float) -> None:
    """Returns when a hundred operations in a row were served."""
    mark = [load.failed, load.served]

    async def so() -> bool:
        if load.failed != mark[0]:
            mark[:] = [load.failed, load.served]
        return load.served - mark[1] > 100 * BATCH

    await until(so, "the load is served again", patience_s)


def sentinel_url(group: Sentinels) -> str:
    hosts = ",".join(f"{host}:{port}" for host, port in group.addresses)
    return f"redis+sentinel://{hosts}/{group.name}"


def cluster_url(group: Cluster) -> str:
    return "redis+cluster://" + ",".join(f"{host}:{port}" for host, port in group.addresses)


# --- Sentinel ----------------------------------------------------------------------------------


async def lose_the_primary(frozen: bool) -> tuple[float, float]:  # noqa: FBT001 -- of tests
    """F10: seconds from the fault until the load is served by the new primary, and the share of
    that after the Sentinels had agreed on it.
    """
    loop = asyncio.get_running_loop()
    heard = Heard()
    async with sentinels() as group, link_to(heard, REDIS_URL=sentinel_url(group)) as link:
        old = group.servers[0]
        async with loaded(link) as load:
            started = loop.time()
            if frozen:
                old.freeze()
            else:
                await old.kill()

            async def agree() -> bool:
                named = {await each.primary_port(group.name) for each in group.sentinels}
                return named == {new.port}

            new = group.servers[1]
            await until(agree, "the Sentinels agree", 20)  # they may hold several elections
            agreed = loop.time()

            async def moved() -> bool:
                return heard.joins[-1] == f"127.0.0.1:{new.port}"

            await until(moved, "the new primary is heard", 5)
            await serving(load, 5)
            took = load.last_failure - started, load.last_failure - agreed
            if frozen:
                old.thaw()
                await old.ask("SET", "p:late", "1")
        assert heard.lost == [f"127.0.0.1:{old.port}"]
        assert b"p:late" not in heard.names
        return took


@pytest.mark.parametrize("frozen", [False, True], ids=["killed", "frozen"])
async def test_a_lost_primary_is_followed(frozen: bool):  # noqa: FBT001
    whole, ours = await lose_the_primary(frozen)
    how = "SIGSTOP" if frozen else "kill -9"
    print(f"F10 {how}: L2 back after {whole:.2f} s, {ours:.2f} s of them ours")  # noqa: T201
    assert ours < 1.5


async def test_a_demotion_under_load_is_noticed():
    """F12: a primary becomes a replica and is made a primary again."""
    loop = asyncio.get_running_loop()
    async with sentinels() as group, link_to(REDIS_URL=sentinel_url(group)) as link:
        primary, replica = group.servers
        async with loaded(link) as load:
            await primary.ask("REPLICAOF", *replica.address)
            await until(lambda: _true(load.failed > 50), "writes are refused")
            await primary.ask("REPLICAOF", "NO", "ONE")
            since = loop.time()
            await serving(load, 5)
            assert load.last_failure - since < 1


# --- Cluster -----------------------------------------------------------------------------------


async def reshard(slots: int) -> tuple[Load, Link]:
    """F13: moves slots that hold names first, then others, while the load goes on."""
    held = sorted({slot_of(name.encode()) for name in NAMES})
    async with cluster() as group, link_to(REDIS_URL=cluster_url(group)) as link:
        target = group.masters[2]
        share = SLOTS * 2 // 3
        moving = [slot for slot in held if slot < share]
        moving += [slot for slot in range(share) if slot not in set(held)]
        async with loaded(link) as load:
            await group.reshard(moving[:slots], target)
            await serving(load, 5)
        for name in NAMES[:20]:
            await works(link, put(name, name), b"OK", 2)
        return load, link


async def test_resharding_under_load_breaks_nothing():
    load, _ = await reshard(60)
    print(  # noqa: T201
        f"F13: {load.served} served, {load.failed} misses, slowest {load.slowest_s * 1e3:.0f} ms"
    )
    assert load.failed < load.served / 20


async def lose_a_primary_of_three(frozen: bool) -> float:  # noqa: FBT001
    """F14: seconds from the fault until all slots are served again."""
    loop = asyncio.get_running_loop()
    heard = Heard()
    options = ("--cluster-require-full-coverage", "no")
    async with (
        cluster(*options, masters=3, replicas=1) as group,
        link_to(heard, REDIS_URL=cluster_url(group)) as link,
    ):
        dead = group.masters[0]
        lost = {name for name in NAMES if slot_of(name.encode()) <= SLOTS // 3}
        where = f"127.0.0.1:{dead.port}"
        async with loaded(link) as load:
            load.why.clear()
            started = loop.time()
            await (_frozen(dead.freeze) if frozen else dead.kill())

            async def replaced() -> bool:
                return where in heard.gone and len(link.nodes()) == 3

            await until(replaced, "another node took its place", 12)
            await serving(load, 5)
            took = load.last_failure - started
            if frozen:
                dead.thaw()
        others = load.why.keys() - lost
        assert not others, {name: load.why[name] for name in others}
        assert await ask(link, put(NAMES[0], "v")) == b"OK"
        return took


def _frozen(freeze: Callable[[], None]) -> Awaitable[None]:
    freeze()
    return asyncio.sleep(0)


@pytest.mark.parametrize("frozen", [False, True], ids=["killed", "frozen"])
async def test_a_lost_primary_of_a_cluster_costs_its_slots_alone(frozen: bool):  # noqa: FBT001
    took = await lose_a_primary_of_three(frozen)
    print(f"F14 {'SIGSTOP' if frozen else 'kill -9'}: all slots back after {took:.2f} s")  # noqa: T201
    assert took < 6


# --- as often as the catalogue asks ------------------------------------------------------------


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("frozen", [False, True], ids=["killed", "frozen"])
async def test_twenty_lost_primaries_of_sentinels(frozen: bool):  # noqa: FBT001
    times = sorted([await lose_the_primary(frozen) for _ in range(20)])
    ours = max(share for _, share in times)
    print(  # noqa: T201
        f"F10: median {times[10][0]:.2f} s, worst {times[-1][0]:.2f} s; ours {ours:.2f} s"
    )
    assert ours < 1.5


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_ten_reshards():
    for slots in range(300, 1501, 133):
        load, _ = await reshard(slots)
        assert load.failed < load.served / 20


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_twenty_lost_primaries_of_clusters():
    times = sorted([await lose_a_primary_of_three(frozen=False) for _ in range(20)])
    print(f"F14: median {times[10]:.2f} s, worst {times[-1]:.2f} s")  # noqa: T201
    assert times[-1] < 6
