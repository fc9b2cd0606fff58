"""What falls with a file, a project, a tag, a key or everything, in every process."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.usecases.app_kit import app_at, make_project

from querycache.values import Kind

pytestmark = pytest.mark.asyncio


async def test_a_file_takes_all_that_was_derived_from_it(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    path = str(project / "app/greeting.py")
    async with app_at(tmp_path / "home") as one, app_at(tmp_path / "home") as two:
        await one.index(str(project))
        for app in (one, two):
            await app.search("greet", "sample")
        await one.remember.set(f"file:{path}", "parsed by hand")
        assert await two.remember.get(f"file:{path}") == "parsed by hand"
        cut = await two.invalidate.files([path])
        assert cut.files == 1
        assert cut.entries >= 2
        assert cut.told
        for app in (one, two):
            assert await app.remember.get(f"file:{path}") is None
        assert not (await one.search("greet", "sample")).cache.hit
        assert (await two.search("greet", "sample")).cache.tier == "l2"  # what `one` just stored


async def test_a_project_takes_its_entries_and_leaves_the_others(tmp_path: Path) -> None:
    async with app_at(tmp_path / "home") as one, app_at(tmp_path / "home") as two:
        for name in ("mine", "theirs"):
            await one.index(str(make_project(tmp_path / name)))
            await one.search("greet", name)
        await one.remember.set("project:mine", "context")
        await one.remember.set("tagged", 1, tags=["project:mine"])
        await two.invalidate.project("mine")
        assert not (await one.search("greet", "mine")).cache.hit
        assert (await one.search("greet", "theirs")).cache.hit
        assert await one.remember.get("project:mine") is None
        assert await one.remember.get("tagged") is None
        shared = [row for row in await one.list_keys([Kind.EMBEDDING]) if row.count]
        assert shared  # what is shared by content stays


async def test_a_tag_and_a_key(tmp_path: Path) -> None:
    async with app_at(tmp_path / "home") as one, app_at(tmp_path / "home") as two:
        await one.remember.set("a", 1, tags=["t"])
        await one.remember.set("b", 2)
        await one.remember.set("c", 3)
        before = await two.invalidate.tag("t")
        again = await two.invalidate.tag("t")
        assert again.generation > before.generation
        assert (await two.invalidate.key("b")).entries == 1
        assert (await two.invalidate.key(one.namer.raw("c"))).entries == 1
        assert await one.remember.get_batch(["a", "b", "c"]) == {}


async def test_everything_is_unreachable_at_once_and_reclaimed(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as one, app_at(tmp_path / "home") as two:
        await one.index(str(project))
        await one.search("greet", "sample")
        await two.remember.set("k", "v")
        cut = await two.clear()
        assert cut.entries > 10
        assert await one.list_keys() == []
        assert await one.remember.get("k") is None
        assert (await one.search("greet", "sample")).results  # the index is no cache


async def test_explaining_an_entry(tmp_path: Path) -> None:
    async with app_at(tmp_path / "home") as app:
        await app.remember.set("k", "v", ttl=60, tags=["t"])
        told = await app.explain_key("k")
        assert (told.key, told.entry.trouble) == ("codebase_rag:other:_:k", "")
        for found in (told.entry.l1, told.entry.l2):
            assert found is not None
            assert found.verdict == "fresh"
            assert 59 < found.usable_s <= 60
            assert [state.tag for state in found.tags] == ["kind:other", "t"]
        assert any(type(event).__name__ == "Stored" for _, _, event in told.events)
        await app.invalidate.tag("t")
        after = (await app.explain_key(told.key)).entry
        assert after.l2 is not None
        assert after.l2.verdict == "invalidated"
        absent = await app.explain_key("absent")
        assert (absent.entry.l1, absent.entry.l2, absent.entry.trouble) == (None, None, "")


async def test_keys_are_counted_by_their_first_three_segments(tmp_path: Path) -> None:
    async with app_at(tmp_path / "home") as app:
        for n in range(3):
            await app.remember.set(f"perf_{n}", "x" * n)
        await app.remember.set("file:/a", 1)
        rows = await app.list_keys()
        assert [(row.pattern, row.count) for row in rows] == [
            ("codebase_rag:other:_:*", 3),
            ("codebase_rag:file:_:*", 1),
        ]
        assert all(row.bytes > 0 for row in rows)
        assert [row.count for row in await app.list_keys([Kind.FILE])] == [1]
        assert await app.list_keys(project="none") == []


async def test_a_coherency_check_finds_and_heals(tmp_path: Path) -> None:
    async with app_at(tmp_path / "home") as one, app_at(tmp_path / "home") as two:
        await one.remember.set("k", "old")
        assert (await one.check_coherency()).coherent
        name = one.namer.raw("k")
        entry = one.l1.entries[name]
        await two.remember.set("k", "new")
        one.core.generations.catch_up()
        entry.tags = two.l1.entries[name].tags
        one.l1.put(entry)  # as if the news had been missed
        found = await one.check_coherency()
        assert (found.coherent, found.stale_entries, found.mismatched_keys) == (False, 1, (name,))
        assert await one.remember.get("k") == "new"
        assert (await one.check_coherency(limit=1)).coherent


async def test_no_files_take_nothing(tmp_path: Path) -> None:
    async with app_at(tmp_path / "home") as app:
        cut = await app.invalidate.files([])
        assert (cut.files, cut.entries, cut.told) == (0, 0, True)


async def test_names_that_are_no_utf_8_go_like_others(tmp_path: Path) -> None:
    path, tag = "/src/\udcff.py", "\ud800 mine"
    async with app_at(tmp_path / "home") as one, app_at(tmp_path / "home") as two:
        for derived, cut in (
            (f"file:{path}", lambda: two.invalidate.files([path])),
            ("tagged", lambda: two.invalidate.tag(tag)),
            ("k\ud800", lambda: two.invalidate.pattern("k\ud800*")),
        ):
            assert await one.remember.set(derived, "derived", tags=[tag])
            assert await two.remember.get(derived) == "derived"
            assert (await cut()).told
            assert await one.remember.get(derived) is None
        assert not two.core.generations.owed_tags
        assert (await two.status.health()).status == "healthy"
