"""What every L2 promises, seen by two processes on one store."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import ClassVar

import pytest
import pytest_asyncio

from querycache.ports.tiers import L2, Write

Pair = tuple[L2, L2]
LIFE_S = 600.0


class L2Suite(ABC):
    """Inherit, and say how to open a pair."""

    remembers: ClassVar[bool] = True
    tells: ClassVar[bool] = True
    """Whether it carries posts to other machines."""
    guards_tags: ClassVar[bool] = True
    """Whether it refuses what depends on a counter that moved since the guard was taken; another
    stores it, under stamps that no longer stand.
    """

    @abstractmethod
    def opened(self, folder: Path) -> AbstractAsyncContextManager[Pair]:
        """Two handles on one empty store, as two processes have them (one handle twice where a
        store is never shared). Closed on exit.
        """

    @pytest_asyncio.fixture
    async def pair(self, tmp_path: Path) -> AsyncIterator[Pair]:
        async with self.opened(tmp_path) as pair:
            yield pair

    @abstractmethod
    def wall(self) -> float:
        """The wall clock that the store reads."""

    @abstractmethod
    async def pass_time(self, seconds: float) -> None:
        """Returns when the store's clock shows at least `seconds` more."""

    def entry(
        self,
        key: str,
        data: bytes = b"value",
        *,
        life_s: float = LIFE_S,
        tags: tuple[str, ...] = (),
        guard: int | None = None,
        tell: bool = True,
    ) -> Write:
        return Write(key, data, self.wall() + life_s, tags, guard, tell)

    @staticmethod
    async def value(tier: L2, key: str) -> bytes | None:
        return (await tier.read([key]))[0].data

    @staticmethod
    async def guard(tier: L2, key: str) -> int:
        return (await tier.read([key]))[0].guard

    def kept(self, data: bytes | None) -> bytes | None:
        return data if self.remembers else None

    @pytest.mark.asyncio
    async def test_what_one_writes_the_other_reads(self, pair: Pair) -> None:
        ours, theirs = pair
        data = bytes(range(256)) * 100
        assert await ours.write([self.entry("k:1", data), self.entry("k:2", b"")]) == [True, True]
        assert await self.value(theirs, "k:1") == self.kept(data)
        assert await self.value(theirs, "k:2") == self.kept(b"")
        assert await self.value(theirs, "k:3") is None

    @pytest.mark.asyncio
    async def test_a_batch_keeps_its_order(self, pair: Pair) -> None:
        ours, theirs = pair
        names = [f"k:{number}" for number in range(300)]
        await ours.write([self.entry(name, name.encode()) for name in names[::2]])
        wanted = [*reversed(names), names[0], "absent"]
        found = [read.data for read in await theirs.read(wanted)]
        there = set(names[::2]) if self.remembers else set[str]()
        assert found == [name.encode() if name in there else None for name in wanted]
        assert await theirs.read([]) == []
        assert await theirs.write([]) == []

    @pytest.mark.asyncio
    async def test_the_first_writer_of_a_secret_stays(self, pair: Pair) -> None:
        ours, theirs = pair
        name, mine, other = "salt:00ff:a%20project", bytes(range(256)), b"\0other"
        assert await ours.secret(name) is None
        assert await ours.secret(name, mine) == mine
        assert await theirs.secret(name, other) == (mine if self.remembers else other)
        assert await theirs.secret(name) == self.kept(mine)
        assert await theirs.secret("salt:00ff:another") is None
        assert await theirs.drop_secret(name) is self.remembers
        assert not await ours.drop_secret(name)
        assert await ours.secret(name) is None
        assert await ours.secret(name, other) == other

    @pytest.mark.asyncio
    async def test_secrets_are_no_entries_and_outlive_them(self, pair: Pair) -> None:
        ours, theirs = pair
        await ours.secret("salt:k", b"kept")
        await ours.write([self.entry("codebase_rag:k:_:1")])
        listed = [listing.key async for listing in theirs.scan()]
        assert listed == (["codebase_rag:k:_:1"] if self.remembers else [])
        await ours.purge("")
        await ours.bump(["tag"])
        assert await theirs.secret("salt:k") == self.kept(b"kept")

    @pytest.mark.asyncio
    async def test_a_later_write_replaces_the_earlier(self, pair: Pair) -> None:
        ours, theirs = pair
        await ours.write([self.entry("k", b"old")])
        await theirs.write([self.entry("k", b"new")])
        assert await self.value(ours, "k") == self.kept(b"new")

    @pytest.mark.asyncio
    async def test_names_may_hold_anything_printable(self, pair: Pair) -> None:
        ours, theirs = pair
        names = ["a:b%20c", "ä:ö", "x" * 250, "quote'\"", "per%cent_"]
        await ours.write([self.entry(name, name.encode()) for name in names])
        for name in names:
            assert await self.value(theirs, name) == self.kept(name.encode())

    @pytest.mark.asyncio
    async def test_nothing_is_read_past_its_expiry(self, pair: Pair) -> None:
        ours, theirs = pair
        await ours.write([self.entry("short", life_s=1.0), self.entry("long")])
        await self.pass_time(1.1)
        assert await self.value(theirs, "short") is None
        assert [read.data for read in await theirs.read(["short", "long"])] == [
            None,
            self.kept(b"value"),
        ]

    @pytest.mark.asyncio
    async def test_what_is_written_expired_is_never_read(self, pair: Pair) -> None:
        ours, _ = pair
        await ours.write([self.entry("k", life_s=-5.0)])
        assert await self.value(ours, "k") is None

    @pytest.mark.asyncio
    async def test_remove_counts_what_it_held(self, pair: Pair) -> None:
        ours, theirs = pair
        await ours.write([self.entry("k:1"), self.entry("k:2")])
        assert await theirs.remove(["k:1", "k:2", "k:3"]) == (2 if self.remembers else 0)
        assert await self.value(ours, "k:1") is None
        assert await ours.remove(["k:1"]) == 0

    @pytest.mark.asyncio
    async def test_a_guarded_write_is_stored_while_nothing_moved(self, pair: Pair) -> None:
        ours, theirs = pair
        guard = await self.guard(ours, "k")
        await theirs.write([self.entry("another")])
        await theirs.bump(["another tag"])
        write = self.entry("k", tags=("t",), guard=guard)
        assert await ours.write([write]) == [True]
        assert await self.value(theirs, "k") == self.kept(b"value")

    @pytest.mark.asyncio
    async def test_a_guarded_write_is_refused_after_a_remove(self, pair: Pair) -> None:
        ours, theirs = pair
        guard = await self.guard(ours, "k")
        await theirs.remove(["k"])
        assert await ours.write([self.entry("k", b"stale", guard=guard)]) == [False]
        assert await self.value(theirs, "k") is None
        assert await ours.write([self.entry("k", guard=await self.guard(ours, "k"))]) == [True]

    @pytest.mark.asyncio
    async def test_a_guarded_write_is_refused_after_an_overwrite(self, pair: Pair) -> None:
        ours, theirs = pair
        guard = await self.guard(ours, "k")
        await theirs.write([self.entry("k", b"new")])
        assert await ours.write([self.entry("k", b"stale", guard=guard)]) == [False]
        assert await self.value(ours, "k") == self.kept(b"new")

    @pytest.mark.asyncio
    async def test_a_guarded_write_is_refused_after_a_bump_of_its_tag(self, pair: Pair) -> None:
        ours, theirs = pair
        await ours.bump(["t", "u"])
        guards = [await self.guard(ours, key) for key in ("k:1", "k:2", "k:3")]
        await theirs.bump(["u"])
        writes = [
            self.entry("k:1", tags=("t", "u"), guard=guards[0]),
            self.entry("k:2", tags=("t",), guard=guards[1]),
            self.entry("k:3", guard=guards[2]),
        ]
        assert await ours.write(writes) == [not self.guards_tags, True, True]
        assert (await self.value(ours, "k:1") is None) == (self.guards_tags or not self.remembers)

    @pytest.mark.asyncio
    async def test_a_batch_of_guarded_writes(self, pair: Pair) -> None:
        ours, _ = pair
        keys = [f"k:{number}" for number in range(3)]
        guards = [read.guard for read in await ours.read(keys)]
        writes = [self.entry(key, guard=guard) for key, guard in zip(keys, guards, strict=True)]
        assert await ours.write(writes) == [True, True, True]
        assert await ours.write(writes) == [False, False, False]

    @pytest.mark.asyncio
    async def test_a_key_is_not_a_tag(self, pair: Pair) -> None:
        ours, theirs = pair
        guard = await self.guard(ours, "same")
        await theirs.bump(["same"])
        assert await ours.write([self.entry("same", guard=guard)]) == [True]
        guard = await self.guard(ours, "other")
        await theirs.remove(["same"])
        assert await ours.write([self.entry("other", tags=("same",), guard=guard)]) == [True]

    @pytest.mark.asyncio
    async def test_counters_move_when_bumped_and_only_then(self, pair: Pair) -> None:
        ours, theirs = pair
        before = await ours.stamps(["t", "u"])
        assert await theirs.stamps(["t", "u"]) == before
        moved = await ours.bump(["t"])
        after = await theirs.stamps(["t", "u"])
        assert moved == {"t": after["t"]}
        assert after["t"] != before["t"]
        assert after["u"] == before["u"]
        await ours.write([self.entry("k", tags=("t",))])
        await ours.remove(["k"])
        await ours.sweep()
        assert await theirs.stamps(["t", "u"]) == after

    @pytest.mark.asyncio
    async def test_no_bump_is_lost_among_many(self, pair: Pair) -> None:
        seen = await asyncio.gather(*(tier.bump(["t"]) for tier in pair for _ in range(20)))
        assert len({moved["t"] for moved in seen}) == 40
        assert (await pair[0].stamps(["t"]))["t"] in {moved["t"] for moved in seen}

    @pytest.mark.asyncio
    async def test_many_counters_at_once(self, pair: Pair) -> None:
        ours, theirs = pair
        tags = [f"t{number}" for number in range(300)]
        moved = await ours.bump(tags)
        assert await theirs.stamps([*tags, *tags]) == moved
        assert await theirs.stamps([]) == {}

    @pytest.mark.asyncio
    async def test_a_lease_has_one_holder(self, pair: Pair) -> None:
        ours, theirs = pair
        token = await ours.lease("k", 5.0)
        assert token
        assert await theirs.lease("k", 5.0) is None
        assert await theirs.lease("another", 5.0)
        assert not await theirs.renew("k", "a stranger's", 5.0)
        await theirs.release("k", "a stranger's")
        assert await theirs.lease("k", 5.0) is None
        await ours.release("k", token)
        assert await theirs.lease("k", 5.0)

    @pytest.mark.asyncio
    async def test_a_lease_runs_out(self, pair: Pair) -> None:
        ours, theirs = pair
        token = await ours.lease("k", 1.0)
        assert token
        await self.pass_time(0.5)
        assert await ours.renew("k", token, 1.0)
        await self.pass_time(0.6)
        assert await theirs.lease("k", 1.0) is None
        await self.pass_time(0.6)
        assert not await ours.renew("k", token, 1.0)
        second = await theirs.lease("k", 1.0)
        assert second
        assert second != token
        await ours.release("k", token)
        assert await ours.lease("k", 1.0) is None

    @pytest.mark.asyncio
    async def test_of_many_that_want_a_lease_one_gets_it(self, pair: Pair) -> None:
        tokens = await asyncio.gather(*(tier.lease("k", 5.0) for tier in pair for _ in range(10)))
        assert len([token for token in tokens if token]) == 1

    @pytest.mark.asyncio
    async def test_scan_finds_each_live_entry_once(self, pair: Pair) -> None:
        ours, theirs = pair
        names = [f"p:a:{number}" for number in range(1200)]
        for start in range(0, len(names), 400):
            await ours.write(
                [self.entry(name, b"12345") for name in names[start : start + 400]]
                + [self.entry(f"q:{start}"), self.entry(f"p:expired:{start}", life_s=-5)]
            )
        found = [listing async for listing in theirs.scan("p:")]
        assert sorted(listing.key for listing in found) == (
            sorted(names) if self.remembers else []
        )
        assert {listing.size for listing in found} <= {5}
        everything = [listing.key async for listing in theirs.scan()]
        assert len(everything) == (len(names) + 3 if self.remembers else 0)
        assert [listing async for listing in theirs.scan("absent")] == []

    @pytest.mark.asyncio
    async def test_a_scan_survives_what_happens_meanwhile(self, pair: Pair) -> None:
        ours, theirs = pair
        names = [f"k:{number:04}" for number in range(1100)]
        await ours.write([self.entry(name) for name in names])
        found: list[str] = []
        async for listing in theirs.scan("k:"):
            if not found:
                await ours.remove(names[1000:])
                await ours.write([self.entry("k:9")])
            found.append(listing.key)
        assert len(found) == len(set(found))
        assert set(found) >= set(names[:1000] if self.remembers else [])

    @pytest.mark.asyncio
    async def test_purge_takes_a_prefix_only(self, pair: Pair) -> None:
        ours, theirs = pair
        await ours.write([self.entry(f"p:{number}") for number in range(700)])
        await ours.write([self.entry("q:1"), self.entry("p")])
        moved = await ours.bump(["t"])
        assert await theirs.purge("p:") == (700 if self.remembers else 0)
        assert await self.value(ours, "p:1") is None
        assert await self.value(ours, "q:1") == self.kept(b"value")
        assert await self.value(ours, "p") == self.kept(b"value")
        assert await ours.stamps(["t"]) == moved

    @pytest.mark.asyncio
    async def test_sweeping_keeps_what_lives(self, pair: Pair) -> None:
        ours, theirs = pair
        await ours.write([self.entry(f"short:{number}", life_s=1.0) for number in range(50)])
        await ours.write([self.entry("long")])
        await self.pass_time(1.1)
        for _ in range(3):
            await theirs.sweep(limit=20)
        assert await self.value(ours, "long") == self.kept(b"value")
        assert [listing.key async for listing in ours.scan("short:")] == []

    @pytest.mark.asyncio
    async def test_what_is_posted_is_read_by_others_and_is_no_entry(self, pair: Pair) -> None:
        ours, theirs = pair
        before = (await theirs.info()).entries
        await ours.post("a", b"first", 100.0)
        await ours.post("a", b"second\nline", 100.0)
        await theirs.post("b", b"theirs", 100.0)
        await ours.post("c", b"gone", 100.0)
        await ours.post("c", b"", 0.0)
        told = {"a": b"second\nline", "b": b"theirs"} if self.tells else {}
        assert await theirs.posts() == await ours.posts() == told
        assert [listing async for listing in theirs.scan()] == []
        assert (await theirs.info()).entries == before
        await ours.write([self.entry("k:1")])
        assert await ours.purge("k:") == (1 if self.remembers else 0)
        assert await ours.posts() == told

    @pytest.mark.asyncio
    async def test_info_says_how_it_is(self, pair: Pair) -> None:
        ours, theirs = pair
        await ours.write([self.entry("k:1"), self.entry("k:2")])
        info = await theirs.info()
        assert info.connected
        assert info.backend == theirs.name
        assert info.error == ""
        assert info.ping_ms is not None
        assert info.ping_ms >= 0

    @pytest.mark.asyncio
    async def test_a_second_close_does_nothing(self, pair: Pair) -> None:
        for tier in dict.fromkeys(pair):
            await tier.close()
            await tier.close()
