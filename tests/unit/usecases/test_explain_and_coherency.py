"""Explaining and comparing entries of every form: a kind's own and a caller's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.unit.usecases.app_kit import app_at, make_project

from querycache.cache.catalogue.search_results import Hits
from querycache.errors import TierError
from querycache.ports.tiers import Read, Write
from querycache.values import Kind

pytestmark = pytest.mark.asyncio


async def test_entries_of_every_kind_are_explained(tmp_path: Path) -> None:
    async with app_at(tmp_path / "home") as app:
        await app.index(str(make_project(tmp_path / "sample")))
        await app.search("greet", "sample")
        await app.remember.set("search:mine", {"a": 1})
        kinds: set[Kind] = set()
        async for row in app.core.l2.scan():
            told = await app.explain_key(row.key)
            kinds.add(told.kind)
            assert told.entry.trouble == ""
            assert told.entry.l2 is not None
            assert told.entry.l2.verdict == "fresh"
        assert kinds == {Kind.EMBEDDING, Kind.FILE, Kind.SEARCH}


async def test_entries_of_every_form_are_compared(tmp_path: Path) -> None:
    values = {"list": [1], "text": "x", "names": frozenset("abcdefgh"), "other:v": np.ones(3)}
    async with app_at(tmp_path / "home") as one, app_at(tmp_path / "home") as two:
        await one.index(str(make_project(tmp_path / "sample")))
        await one.search("greet", "sample")
        for app in (one, two):
            await app.search("greet", "sample")
            for key, value in values.items():
                await one.remember.set(key, value)
                await app.remember.get(key)
        for app in (one, two):
            checked = await app.check_coherency()
            assert checked.coherent
            assert checked.checked_keys >= len(values)
        others = {"text": "y", "names": frozenset("x"), "other:v": np.zeros(3)}
        for key, value in others.items():
            two.l1.entries[two.remember.name(key)].value = value
        (search,) = (entry for entry in two.l1.entries.values() if ":search:" in entry.key)
        search.value = Hits(())
        checked = await two.check_coherency()
        wrong = {two.remember.name(key) for key in others} | {search.key}
        assert set(checked.mismatched_keys) == wrong
        assert not checked.coherent
        assert not wrong & two.l1.entries.keys()


async def test_an_edit_behind_l1_is_found_whatever_it_holds(tmp_path: Path) -> None:
    async with app_at(tmp_path / "home") as app:
        for key in ("text", "list", "kept"):
            await app.remember.set(key, [key])
        names = [app.remember.name(key) for key in ("text", "list")]
        there = await app.core.l2.read([names[0], app.remember.name("kept")])
        foreign = there[1].data
        assert foreign is not None
        edits = [Write(names[0], b"edited by hand", 4e9, tell=False)]
        edits += [Write(names[1], foreign, 4e9, tell=False)]  # an entry of another name
        await app.core.l2.write(edits)
        checked = await app.check_coherency()
        assert (checked.coherent, checked.l1_l2_consistent) == (False, False)
        assert (checked.stale_entries, checked.checked_keys) == (2, 3)
        assert set(checked.mismatched_keys) == set(names)
        assert checked.differences == {"unreadable": 2}
        assert await app.remember.get_batch(["text", "list", "kept"]) == {"kept": ["kept"]}
        assert (await app.check_coherency()).coherent
        done = app.check_coherency.checks
        assert (done.checks, done.mismatches, done.last_mismatches) == (2, 2, 0)
        assert done.last_at == pytest.approx(app.clock.wall(), abs=60)


async def test_l2_is_asked_in_batches(tmp_path: Path) -> None:
    async with app_at(tmp_path / "home", CACHE_BATCH_SIZE="40") as app:
        await app.remember.set_batch({f"k:{number}": number for number in range(100)})
        asked: list[int] = []
        read = app.core.l2.read

        async def counted(keys: Sequence[str], *, fenced: bool = True) -> list[Read]:
            asked.append(len(keys))
            return await read(keys, fenced=fenced)

        app.core.l2.read = counted
        assert (await app.check_coherency()).checked_keys == 100
        assert asked == [40, 40, 20]


async def test_samples_go_round(tmp_path: Path) -> None:
    async with app_at(tmp_path / "home") as app:
        await app.remember.set_batch({f"k:{number}": number for number in range(10)})
        wrong = list(app.l1.entries)[9]
        app.l1.entries[wrong].value = "something else"
        found = [await app.check_coherency(limit=4) for _ in range(3)]
        assert [checked.checked_keys for checked in found] == [4, 4, 4]
        assert [checked.mismatched_keys for checked in found] == [(), (), (wrong,)]
        assert (await app.check_coherency(limit=4)).coherent


async def test_what_can_not_be_compared_is_said(tmp_path: Path) -> None:
    async with app_at(tmp_path / "home") as app:
        empty = await app.check_coherency()
        assert (empty.coherent, empty.checked_keys) == (True, 0)
        assert "nothing to compare" in empty.note
        await app.remember.set("k", 1)

        async def fail(keys: Sequence[str], *, fenced: bool = True) -> list[Read]:
            raise TierError(f"refused {len(keys)} {fenced}")

        app.core.l2.read = fail
        checked = await app.check_coherency()
        assert (checked.coherent, checked.l1_l2_consistent) == (False, True)
        assert checked.checked_keys == 0
        assert "refused" in checked.note
        assert await app.remember.get("k") == 1
