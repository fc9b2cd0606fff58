"""The core over a store that it can't seal for: nothing old comes back, nothing plain gets in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NoReturn

import pytest
import pytest_asyncio
from tests.races.core_kit import KEY, PLAIN, Origin, Process
from tests.unit.codec.seal_kit import ring_of

from querycache.cache.policy import Policy
from querycache.errors import TierError
from querycache.events import NotStored, TierFailed
from querycache.testing import FakeClock, SharedMemory

pytestmark = pytest.mark.asyncio

BACK = Policy(ttl=100.0, strategy="WRITE_BACK")
OTHER = KEY + "2"


@pytest_asyncio.fixture
async def shared() -> AsyncIterator[SharedMemory]:
    shared = SharedMemory(FakeClock())
    yield shared
    assert all(data[3] & 0x20 for data, _ in shared.entries.values())


def started(shared: SharedMemory) -> Process:
    return Process(shared, ring=ring_of())


async def test_what_was_set_without_a_salt_is_never_undone(shared: SharedMemory) -> None:
    ours, theirs = started(shared), started(shared)
    assert await theirs.put("old")
    await ours.core.generations.take(("all",))  # its tags are known, the salt is not
    kept = shared.secrets
    shared.secrets = _Failing()
    assert await ours.put("new")
    assert await ours.get() == "new"
    assert NotStored(KEY, "l2_down") in ours.observer.of(NotStored)
    assert ours.observer.of(TierFailed)
    ours.l1.clear()
    assert await ours.get() is None
    shared.secrets = kept
    await ours.core.settle()
    for process in (ours, theirs):
        assert await process.get() is None
    assert await ours.put("newer")
    assert await theirs.get() == "newer"
    for process in (ours, theirs):
        process.whole()


async def test_loads_are_answered_without_a_salt(shared: SharedMemory) -> None:
    ours, origin = started(shared), Origin().open()
    shared.secrets = _Failing()
    answer = await ours.core.get_or_load(KEY, PLAIN, origin)
    assert answer.value == "loaded"
    assert shared.entries == {}
    assert await ours.get() == "loaded"
    many = await ours.core.get_or_load_many([KEY + "1", KEY + "2"], PLAIN, _load_many)
    assert {answer.value for answer in many.values()} == {"many"}
    assert shared.entries == {}
    ours.whole()


async def test_a_caller_that_leaves_while_a_salt_is_fetched_leaves_nothing(
    shared: SharedMemory,
) -> None:
    ours = started(shared)
    gate = asyncio.Event()
    fetch = ours.l2.secret

    async def slow(name: str, proposed: bytes | None = None) -> bytes | None:
        await gate.wait()
        return await fetch(name, proposed)

    setattr(ours.l2, "secret", slow)  # noqa: B010 -- a method
    task = asyncio.ensure_future(ours.put("mine"))
    await shared.clock.settle()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    gate.set()
    await ours.core.settle()
    assert await ours.get() is None
    assert await ours.put("again")
    assert await ours.get() == "again"
    ours.whole()


async def test_entries_seem_sealed_to_every_path(shared: SharedMemory) -> None:
    ours, theirs = started(shared), started(shared)
    names = [f"codebase_rag:other:p{number % 3}:{number}" for number in range(30)]
    values = dict(zip(names, range(30), strict=True))
    assert all(await ours.core.put(values, PLAIN))
    found = await theirs.core.get_many(names, PLAIN)
    assert {name: answer.value for name, answer in found.items()} == values
    looked = await theirs.core.examiner.examine(names[0])
    assert looked.l2 is not None
    assert looked.l2.verdict == "fresh"
    checked = await theirs.core.examiner.reconcile(names)
    assert (checked.compared, checked.missing, checked.differing) == (30, 0, {})
    fresh = started(shared)
    assert (await fresh.core.examiner.examine(names[1])).l2 is not None
    assert len(shared.secrets) == 3


class _Failing(dict[str, bytes]):
    """A tier that takes entries and gives no salts."""

    def get(self, *_: object) -> NoReturn:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise TierError("no salts, as told")

    setdefault = get  # pyright: ignore[reportAssignmentType]


async def _load_many(keys: list[str]) -> dict[str, object]:
    return dict.fromkeys(keys, "many")


async def test_what_waits_never_follows_what_was_set_without_a_salt(shared: SharedMemory) -> None:
    ours, reader, kept = started(shared), started(shared), shared.secrets
    assert await ours.put("old", policy=BACK)
    shared.secrets = {}
    assert await reader.put("theirs", key=OTHER)
    shared.secrets = {}  # evicted twice, which a reader finds out
    await ours.get(OTHER)
    shared.secrets = _Failing()
    assert await ours.put("new", policy=BACK)
    ours.l1.clear()
    shared.secrets = kept
    await shared.clock.advance(2.0)
    assert await ours.get(policy=BACK) is None
    await ours.core.settle()
    await ours.core.write_back.flush()
    for process in (ours, started(shared)):
        assert await process.get() is None
