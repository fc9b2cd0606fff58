"""Explaining and comparing entries of every form: a kind's own and a caller's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.unit.usecases.app_kit import app_at, make_project

from querycache.cache.catalogue.search_results import Hits
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
