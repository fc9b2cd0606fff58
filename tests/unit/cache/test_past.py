"""Why a name that no tier has is not there, and the sample of what hits cost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from tests.races.core_kit import ALL, KEY, PLAIN, Process

from querycache.cache.policy import Policy
from querycache.cache.sampling import Sampling
from querycache.events import Missed
from querycache.testing import FakeClock, SharedMemory
from querycache.values import Kind

pytestmark = pytest.mark.asyncio

MEMORY_ONLY = replace(PLAIN, l2=False, l1_ttl=50.0)


@pytest.fixture
def shared() -> SharedMemory:
    return SharedMemory(FakeClock())


@pytest.fixture
def here(shared: SharedMemory) -> Iterator[Process]:
    process = Process(shared)
    yield process
    told = [event.reason for event in process.observer.events if isinstance(event, Missed)]
    reasons = process.core.tallies[Kind.OTHER].reasons
    assert sum(reasons.values()) == process.core.tallies[Kind.OTHER].misses == len(told)
    assert {reason: told.count(reason) for reason in told} == reasons


async def why(process: Process, policy: Policy = PLAIN, key: str = KEY) -> str:
    return (await process.core.get(key, policy)).reason


async def test_what_was_never_there_is_absent(here: Process):
    assert await why(here) == "absent"
    assert await why(here, replace(PLAIN, l1=False, l2=False)) == "disabled"


async def test_what_ended_has_expired_in_either_tier(here: Process):
    await here.put("value")
    await here.put("value", "codebase_rag:other:_:memory", MEMORY_ONLY)
    await here.clock.advance(60.0)
    assert await why(here, MEMORY_ONLY, "codebase_rag:other:_:memory") == "expired"
    assert await why(here) == ""
    await here.clock.advance(60.0)
    assert await why(here) == "expired"


async def test_what_had_to_give_way_was_evicted(here: Process):
    await here.put("value", policy=MEMORY_ONLY)
    here.l1.shed(1.0)
    assert await why(here, MEMORY_ONLY) == "evicted"
    await here.put("value")
    here.l1.shed(1.0)
    assert await why(here) == ""  # L2 had it
    here.l1.shed(1.0)
    here.l2.shared.entries.clear()  # as a server does whose memory is full
    assert await why(here) == "evicted"


async def test_what_was_taken_away_on_purpose_was_invalidated(here: Process, shared: SharedMemory):
    elsewhere = Process(shared, seed=2)
    await here.put("value")
    await here.core.remove([KEY])
    assert await why(here) == "invalidated"
    await here.put("value")
    await elsewhere.core.remove([KEY])
    assert await why(here) == "invalidated"
    await here.put("value")
    await elsewhere.core.invalidate(ALL)
    await elsewhere.l2.purge("")
    assert await why(here) == "invalidated"
    await here.put("value", policy=MEMORY_ONLY)
    await here.core.invalidate(ALL)
    assert await why(here, MEMORY_ONLY) == "invalidated"


async def test_a_name_that_was_read_here_is_known_as_well(here: Process, shared: SharedMemory):
    elsewhere = Process(shared, seed=2)
    await elsewhere.put("value")
    assert await here.get() == "value"
    await here.clock.advance(1000.0)
    assert await why(here) == "expired"


async def test_the_sample_counts_nothing_and_rests_while_nobody_reads(here: Process):
    sampling, tally = Sampling(here.core, here.clock), here.core.tallies[Kind.OTHER]
    await here.put("value")
    sampling.turn()
    assert tally.l1.count == 0
    assert await here.get() == "value"
    entry = here.core.l1.entries[KEY]
    hits = entry.hits
    sampling.turn()
    sampling.turn()
    assert tally.l1.count == 1
    assert (tally.l1_hits, entry.hits) == (1, hits)
    assert await here.get() == "value"
    for number in range(20):  # newer names that are not in memory
        here.core.past.note(f"codebase_rag:other:_:{number}", Kind.OTHER, 1e9, ())
    sampling.turn()
    assert tally.l1.count == 2


async def test_reads_and_loads_are_timed(here: Process):
    async def load() -> object:
        await here.clock.advance(0.2)
        return "loaded"

    await here.core.get_or_load(KEY, PLAIN, load, tags=ALL)
    await here.core.get_or_load_many(["a", "b"], PLAIN, lambda _: _many(here), tags=ALL)
    tally = here.core.tallies[Kind.OTHER]
    assert tally.load.count == 2
    assert tally.load.total_s == pytest.approx(0.6)
    assert tally.l2.count == 2
    here.l2.shared.down = True
    assert await why(here, key="codebase_rag:other:_:x") == "l2_down"
    assert tally.l2.count == 2


async def _many(process: Process) -> dict[str, object]:
    await process.clock.advance(0.4)
    return {"a": 1, "b": 2}
