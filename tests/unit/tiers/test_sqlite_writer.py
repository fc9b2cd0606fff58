"""How the embedded store writes: batches, failures of one among many, bounds, last use."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from querycache.errors import TierError
from querycache.ports.tiers import Write
from querycache.testing import FakeClock
from querycache.tiers.sqlite import SqliteTier
from querycache.tiers.sqlite.connection import cursor_of
from querycache.tiers.sqlite.store import Life
from querycache.tiers.sqlite.transaction import LOG_ROWS

pytestmark = pytest.mark.asyncio

MIB = 1024 * 1024


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest_asyncio.fixture
async def tier(tmp_path: Path, clock: FakeClock) -> AsyncGenerator[SqliteTier]:
    tier = SqliteTier(str(tmp_path / "l2"), clock=clock, max_bytes=4 * MIB, busy_timeout_s=0.1)
    yield tier
    await tier.close()


def life(tier: SqliteTier) -> Life:
    return tier._store.life  # pyright: ignore[reportPrivateUsage]  # what is under test


def entry(clock: FakeClock, key: str, data: bytes = b"value", life_s: float = 600) -> Write:
    return Write(key, data, clock.wall() + life_s)


async def value(tier: SqliteTier, key: str) -> bytes | None:
    return (await tier.read([key]))[0].data


async def test_what_waits_together_is_committed_together(
    tier: SqliteTier, clock: FakeClock
) -> None:
    tier.backplane.drain()
    before = tier.backplane.epoch[0]
    await asyncio.gather(*(tier.write([entry(clock, f"k:{n}")]) for n in range(200)))
    assert 1 <= tier.backplane.epoch[0] - before < 200
    assert all([await value(tier, f"k:{n}") for n in range(200)])


async def test_one_that_can_not_be_written_fails_alone(tier: SqliteTier, clock: FakeClock) -> None:
    impossible = "\ud800"  # no UTF-8
    results = await asyncio.gather(
        tier.write([entry(clock, "before")]),
        tier.write([entry(clock, impossible)]),
        tier.remove([impossible]),
        tier.bump(["t"]),
        tier.write([entry(clock, "after")]),
        return_exceptions=True,
    )
    assert results[0] == results[4] == [True]
    assert isinstance(results[1], TierError)
    assert isinstance(results[2], TierError)
    assert isinstance(results[3], dict)
    assert await value(tier, "before") == await value(tier, "after") == b"value"
    assert tier.rebuilt == 0
    with pytest.raises(TierError):
        await tier.read([impossible])


async def test_what_was_cancelled_while_it_waited_is_not_written(
    tier: SqliteTier, clock: FakeClock
) -> None:
    await tier.write([entry(clock, "kept")])
    async with asyncio.TaskGroup() as group:
        blocked = threading.Event()
        begun = threading.Event()

        def block(_: object) -> None:
            begun.set()
            blocked.wait(10)

        group.create_task(tier._writer.submit(block))  # pyright: ignore[reportPrivateUsage]  # holds the thread
        await asyncio.to_thread(begun.wait, 10)
        write = group.create_task(tier.write([entry(clock, "unwanted")]))
        remove = group.create_task(tier.remove(["kept"]))
        await FakeClock.settle()
        write.cancel()
        remove.cancel()
        await FakeClock.settle()
        blocked.set()
    assert await value(tier, "unwanted") is None
    await tier.stamps([])
    await tier.write([entry(clock, "later")])
    assert await value(tier, "kept") is None  # an invalidation is carried out all the same


async def test_operations_of_many_loops_and_threads(tier: SqliteTier, clock: FakeClock) -> None:
    def work(name: int) -> int:
        async def several() -> int:
            done = [await tier.write([entry(clock, f"{name}:{n}")]) for n in range(20)]
            found = await tier.read([f"{name}:{n}" for n in range(20)])
            return sum(map(sum, done)) + sum(read.data is not None for read in found)

        return asyncio.run(several())

    assert await asyncio.gather(*(asyncio.to_thread(work, n) for n in range(4))) == [40] * 4


async def test_a_lock_that_others_keep_is_said_in_time(
    tier: SqliteTier, tmp_path: Path, clock: FakeClock
) -> None:
    await tier.write([entry(clock, "k")])
    other = SqliteTier(str(tmp_path / "l2"), clock=clock, max_bytes=4 * MIB)
    held = threading.Event()
    release = threading.Event()

    def hold(_: object) -> None:
        held.set()
        release.wait(10)

    holding = asyncio.ensure_future(other._writer.submit(hold))  # pyright: ignore[reportPrivateUsage]  # keeps the lock
    await asyncio.to_thread(held.wait, 10)
    failed = await asyncio.gather(
        *(tier.write([entry(clock, f"k:{n}")]) for n in range(5)),
        tier.bump(["t"]),
        return_exceptions=True,
    )
    assert all(isinstance(each, TierError) for each in failed)
    assert await value(tier, "k") == b"value"
    release.set()
    await holding
    assert await tier.write([entry(clock, "k:1")]) == [True]
    assert tier.rebuilt == 0
    await other.close()


async def test_the_size_stays_below_its_bound(tier: SqliteTier, clock: FakeClock) -> None:
    for number in range(300):
        await tier.write([entry(clock, f"k:{number}", bytes(50_000))])
        info = await tier.info()
        assert info.bytes is not None
        assert info.bytes <= 4 * MIB
    info = await tier.info()
    assert info.entries is not None
    assert info.entries > 20
    assert await value(tier, "k:299")
    assert await value(tier, "k:0") is None


async def test_what_was_used_stays_longer(tier: SqliteTier, clock: FakeClock) -> None:
    for number in range(20):
        await tier.write([entry(clock, f"k:{number}", bytes(50_000), 1e6)])
    for _ in range(3):
        await clock.advance(61)
        assert await value(tier, "k:3")
        assert (await tier.read(["k:4", "k:5"]))[1].data
    await tier.sweep()
    left = {f"k:{n}" for n in range(20)}
    for number in range(100, 200):
        await tier.write([entry(clock, f"k:{number}", bytes(50_000), 1e6)])
        left &= {listing.key async for listing in tier.scan("k:")}
        if len(left) <= 3:
            break
    assert left == {"k:3", "k:4", "k:5"}


async def test_what_expired_goes_before_what_lives(tier: SqliteTier, clock: FakeClock) -> None:
    await tier.write([entry(clock, "oldest", bytes(1000))])
    await clock.advance(61)
    for number in range(60):
        await tier.write([entry(clock, f"short:{number}", bytes(50_000), life_s=1)])
    await clock.advance(5)
    for number in range(60):
        await tier.write([entry(clock, f"k:{number}", bytes(50_000))])
    assert await value(tier, "oldest")


async def test_a_sweep_gives_room_back_to_the_disk(
    tier: SqliteTier, tmp_path: Path, clock: FakeClock
) -> None:
    for number in range(60):
        await tier.write([entry(clock, f"k:{number}", bytes(50_000), life_s=1)])
    await clock.advance(5)
    assert await tier.sweep() == 60
    while await tier.sweep(100):
        pass
    assert (await tier.info()).entries == 0
    await tier.close()
    full = 60 * 50_000
    assert (tmp_path / "l2" / "l2.sqlite").stat().st_size < full + MIB


async def test_the_log_is_bounded_and_a_guard_past_its_tail_refused(
    tier: SqliteTier, clock: FakeClock
) -> None:
    guard = (await tier.read(["k"]))[0].guard
    names = [f"n:{n}" for n in range(LOG_ROWS + 600)]
    await tier.remove(names)
    rows = cursor_of(life(tier).writer_or_raise()).execute("SELECT count(*) FROM log").get
    assert rows <= LOG_ROWS + 500
    assert await tier.write([Write("k", b"", clock.wall() + 60, guard=guard)]) == [False]
    changes = tier.backplane.drain()
    assert changes.lost
    assert changes.seen == tier.backplane.epoch[0]


async def test_a_full_database_costs_entries_but_no_invalidation(
    tier: SqliteTier, clock: FakeClock
) -> None:
    for number in range(20):
        await tier.write([entry(clock, f"k:{number}", bytes(50_000))])
    writer = life(tier).writer_or_raise()
    pages = cursor_of(writer).execute("PRAGMA page_count").get
    cursor_of(writer).execute(f"PRAGMA max_page_count = {pages}").fetchall()
    assert await tier.write([entry(clock, "large", bytes(90_000))]) == [True]
    assert await value(tier, "k:19")
    assert await value(tier, "k:0") is None
    with pytest.raises(TierError):
        await tier.write([entry(clock, "too large", bytes(8 * MIB))])
    for number in range(200):
        assert (await tier.bump([f"t:{number}"]))[f"t:{number}"].number
    assert tier.rebuilt == 0


async def test_nothing_is_taken_after_the_end(tier: SqliteTier, clock: FakeClock) -> None:
    await tier.write([entry(clock, "k")])
    waiting = [asyncio.ensure_future(tier.write([entry(clock, f"k:{n}")])) for n in range(50)]
    await asyncio.sleep(0)
    await tier.close()
    assert await asyncio.gather(*waiting) == [[True]] * 50
    for attempt in (tier.write([entry(clock, "k")]), tier.bump(["t"]), tier.read(["k"])):
        with pytest.raises(TierError):
            await attempt
    assert not (await tier.info()).connected
    assert tier.backplane.drain().seen in {-1, tier.backplane.epoch[0]}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_nobody_waits_for_a_thread_that_broke(tier: SqliteTier, clock: FakeClock) -> None:
    def breaks(_: object) -> None:
        raise LookupError("a mistake in the code")

    with pytest.raises(TierError):
        await tier._writer.submit(breaks)  # pyright: ignore[reportPrivateUsage]  # what is under test
    with pytest.raises(TierError):
        await tier.write([entry(clock, "k")])


async def test_a_caller_waits_no_longer_than_its_deadline(
    tier: SqliteTier, clock: FakeClock, tmp_path: Path
) -> None:
    hasty = SqliteTier(str(tmp_path / "l2"), clock=clock, max_bytes=4 * MIB, deadline_s=0.05)
    begun, over = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        begun.set()
        over.wait(10)

    holding = asyncio.ensure_future(tier._writer.submit(hold))  # pyright: ignore[reportPrivateUsage]  # keeps the lock
    await asyncio.to_thread(begun.wait)
    for attempt in (hasty.write([entry(clock, "k")]), hasty.bump(["t"]), hasty.lease("k", 1.0)):
        with pytest.raises(TierError, match=r"longer than 0\.05 s"):
            await attempt
    over.set()
    await holding
    assert (await hasty.bump(["t"]))["t"].number
    await hasty.close()
