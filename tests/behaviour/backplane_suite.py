"""What the backplane of every shared L2 promises."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

from querycache.ports.tiers import L2, Backplane, Changes, Write


class Process(NamedTuple):
    """One process's view of the store."""

    tier: L2
    backplane: Backplane


Pair = tuple[Process, Process]


class BackplaneSuite(ABC):
    """Inherit, and say how to open a pair."""

    @abstractmethod
    def opened(self, folder: Path) -> AbstractAsyncContextManager[Pair]:
        """Two processes on one empty store. Closed on exit."""

    @pytest_asyncio.fixture
    async def pair(self, tmp_path: Path) -> AsyncIterator[Pair]:
        async with self.opened(tmp_path) as pair:
            yield pair

    @abstractmethod
    def wall(self) -> float:
        """The wall clock that the store reads."""

    @abstractmethod
    async def hears(self, listener: Process) -> Changes:
        """A drain of all that was acknowledged to whoever did it."""

    def entry(self, key: str, *, tell: bool = True) -> Write:
        return Write(key, b"value", self.wall() + 600, tell=tell)

    @staticmethod
    def settle(process: Process) -> int:
        """Drains what there is; returns the epoch up to which that was complete."""
        return process.backplane.drain().seen

    @pytest.mark.asyncio
    async def test_a_quiet_world_does_not_move(self, pair: Pair) -> None:
        ours, _ = pair
        seen = self.settle(ours)
        assert ours.backplane.epoch[0] == seen
        assert ours.backplane.drain() == Changes(seen=seen)

    @pytest.mark.asyncio
    async def test_an_overwrite_is_told(self, pair: Pair) -> None:
        ours, theirs = pair
        seen = self.settle(theirs)
        await ours.tier.write([self.entry("k")])
        changes = await self.hears(theirs)
        assert list(changes.keys) == ["k"]
        assert changes.tags == {}
        assert not changes.lost
        assert changes.seen == theirs.backplane.epoch[0] != seen

    @pytest.mark.asyncio
    async def test_a_remove_is_told_also_of_what_was_not_there(self, pair: Pair) -> None:
        ours, theirs = pair
        self.settle(theirs)
        await ours.tier.remove(["k:1", "k:2"])
        assert sorted((await self.hears(theirs)).keys) == ["k:1", "k:2"]

    @pytest.mark.asyncio
    async def test_a_bump_is_told(self, pair: Pair) -> None:
        ours, theirs = pair
        self.settle(theirs)
        moved = await ours.tier.bump(["t", "u"])
        told = (await self.hears(theirs)).tags
        assert told.keys() == moved.keys()
        assert all(stamp in {None, moved[tag]} for tag, stamp in told.items())
        assert await theirs.tier.stamps(["t", "u"]) == moved

    @pytest.mark.asyncio
    async def test_what_never_differs_is_not_told(self, pair: Pair) -> None:
        ours, theirs = pair
        seen = self.settle(theirs)
        await ours.tier.write([self.entry("content", tell=False)])
        changes = await self.hears(theirs)
        assert theirs.backplane.epoch[0] == changes.seen == seen
        assert list(changes.keys) == []

    @pytest.mark.asyncio
    async def test_each_change_is_told_once_and_in_order(self, pair: Pair) -> None:
        ours, theirs = pair
        self.settle(theirs)
        told: list[str] = []
        for number in range(50):
            await ours.tier.write([self.entry(f"k:{number}")])
            if number % 7 == 0:
                told += (await self.hears(theirs)).keys
        told += (await self.hears(theirs)).keys
        assert told == [f"k:{number}" for number in range(50)]

    @pytest.mark.asyncio
    async def test_our_own_writes_do_not_empty_our_own_memory(self, pair: Pair) -> None:
        ours, theirs = pair
        self.settle(ours)
        await ours.tier.write([self.entry("k")])
        await theirs.tier.write([self.entry("other")])
        assert list((await self.hears(ours)).keys) == ["other"]

    @pytest.mark.asyncio
    async def test_both_hear_each_other(self, pair: Pair) -> None:
        ours, theirs = pair
        self.settle(ours)
        self.settle(theirs)
        await ours.tier.bump(["ours"])
        await theirs.tier.bump(["theirs"])
        assert "theirs" in (await self.hears(ours)).tags
        assert "ours" in (await self.hears(theirs)).tags

    @pytest.mark.asyncio
    async def test_draining_from_threads_loses_nothing(self, pair: Pair) -> None:
        ours, theirs = pair
        self.settle(theirs)
        told: list[str] = []
        stop = threading.Event()

        def listen() -> None:
            while not stop.is_set():
                told.extend(theirs.backplane.drain().keys)

        threads = [threading.Thread(target=listen) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for number in range(40):
                await ours.tier.write([self.entry(f"k:{number}")])
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        told.extend((await self.hears(theirs)).keys)
        assert sorted(told) == sorted(f"k:{number}" for number in range(40))

    @pytest.mark.asyncio
    async def test_closing_is_quiet(self, pair: Pair) -> None:
        for process in pair:
            process.backplane.close()
            process.backplane.close()
