"""Answers are cached, fresh and explained."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.unit.usecases.app_kit import SAMPLE, app_at, make_project

from querycache.errors import ProjectNotFoundError, UsageError
from querycache.ports.origins import Mode

pytestmark = pytest.mark.asyncio

QUERIES = ("read the configuration", "greet a person", "start server", "milk", "readSettings")


async def test_cold_then_l1_then_l2_in_another_process(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as one, app_at(tmp_path / "home") as two:
        await one.index(str(project))
        cold = await one.search("read the configuration", "sample")
        warm = await one.search("read the configuration", "sample")
        other = await two.search("read the configuration", "sample")
        assert [answer.cache.tier for answer in (cold, warm, other)] == ["none", "l1", "l2"]
        assert [answer.cache.hit for answer in (cold, warm, other)] == [False, True, True]
        assert cold.results == warm.results == other.results
        assert cold.results[0].path == "app/settings.py"
        assert cold.cache.miss_reason == "absent"
        assert warm.cache.saved_ms > 0
        assert warm.cache.generation == cold.cache.generation


@pytest.mark.parametrize("mode", ["hybrid", "semantic", "keyword"])
async def test_a_cached_ranking_is_identical_to_an_uncached_one(
    tmp_path: Path, mode: Mode
) -> None:
    project = make_project(tmp_path / "sample")
    async with (
        app_at(tmp_path / "home") as cached,
        app_at(tmp_path / "home", CACHE_ENABLED="false") as uncached,
    ):
        await cached.index(str(project))
        for edit in range(3):
            for query in QUERIES:
                theirs = await uncached.search(query, "sample", mode=mode)
                cold = await cached.search(query, "sample", mode=mode)
                warm = await cached.search(query, "sample", mode=mode)
                assert cold.results == warm.results == theirs.results
                assert warm.cache.hit
                assert not theirs.cache.hit
            path = project / "app" / "greeting.py"
            path.write_text(f"{path.read_text()}\ndef more_{edit}():\n    return 'milk'\n")


async def test_an_edit_shows_in_the_next_answer_of_every_process(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as one, app_at(tmp_path / "home") as two:
        await one.index(str(project))
        for app in (one, two):
            before = await app.search("greet a person", "sample")
            assert any(hit.path == "app/greeting.py" for hit in before.results)
        (project / "app/greeting.py").write_text(
            "def greet(name):\n    return f'good bye {name}'\n"
        )
        for app in (one, two):
            after = await app.search("greet a person", "sample")
            texts = [hit.text for hit in after.results if hit.path == "app/greeting.py"]
            assert texts
            assert all("good bye" in text for text in texts)
            assert after.cache.generation > before.cache.generation


async def test_a_deleted_file_is_no_hit(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as app:
        await app.index(str(project))
        await app.search("greet a person", "sample")
        (project / "app/greeting.py").unlink()
        after = await app.search("greet a person", "sample")
        assert all(hit.path != "app/greeting.py" for hit in after.results)


async def test_going_back_to_earlier_content_finds_the_earlier_answer(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    greeting = project / "app/greeting.py"
    async with app_at(tmp_path / "home") as app:
        await app.index(str(project))
        first = await app.search("greet a person", "sample")
        text = greeting.read_text()
        greeting.write_text("def other():\n    return 0\n")
        await app.search("greet a person", "sample")
        greeting.write_text(text)
        again = await app.search("greet a person", "sample")
        assert again.results == first.results
        assert again.cache.hit


async def test_a_file_that_cannot_be_brought_up_is_left_out(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as app:
        await app.index(str(project))
        await app.search("greet a person", "sample")
        busy = app.indexes.try_lock("sample", "index")
        watched = app.indexes.try_lock("sample", "watch")
        assert busy is not None
        assert watched is not None
        (project / "app/greeting.py").write_text("def other():\n    return 0\n")
        answer = await app.search("greet a person", "sample")
        assert answer.left_out == ("app/greeting.py",)
        assert all(hit.path != "app/greeting.py" for hit in answer.results)
        busy.release()
        watched.release()
        assert (await app.search("greet a person", "sample")).left_out == ()


async def test_filters(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as app:
        await app.index(str(project))
        by_language = await app.search("server", "sample", language="javascript")
        assert {hit.language for hit in by_language.results} == {"javascript"}
        by_path = await app.search("function", "sample", path="app/*.py")
        assert by_path.results
        assert all(hit.path.startswith("app/") for hit in by_path.results)
        few = await app.search("function", "sample", limit=1)
        assert len(few.results) == 1


async def test_bad_questions_are_clear_errors(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as app:
        with pytest.raises(ProjectNotFoundError):
            await app.search("anything")
        await app.index(str(project))
        with pytest.raises(ProjectNotFoundError, match="absent"):
            await app.search("anything", "absent")
        for query, limit, mode in (("  ", 10, "hybrid"), ("x", 0, "hybrid"), ("x", 10, "other")):
            with pytest.raises(UsageError):
                await app.search(query, "sample", limit=limit, mode=mode)  # pyright: ignore[reportArgumentType]


async def test_the_project_is_found_by_the_working_directory(tmp_path: Path) -> None:
    one = make_project(tmp_path / "one")
    make_project(tmp_path / "two")
    async with app_at(tmp_path / "home") as app:
        await app.index(str(one))
        await app.index(str(tmp_path / "two"))
        answer = await app.search("greet", folder=str(one / "app"))
        assert answer.project == "one"
        with pytest.raises(ProjectNotFoundError, match="several"):
            await app.search("greet", folder=str(tmp_path))


async def test_a_hundred_equal_questions_are_one_search(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as app:
        await app.index(str(project))
        answers = await asyncio.gather(*(app.search("greet", "sample") for _ in range(100)))
        assert len({answer.results for answer in answers}) == 1
        assert app.core.tallies["search"].loads == 1  # pyright: ignore[reportArgumentType]


async def test_a_broken_cache_never_breaks_a_search(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as app:
        await app.index(str(project))
        expected = (await app.search("greet", "sample")).results
        app.l1.clear()
        for path in (tmp_path / "home" / "l2").glob("l2.sqlite*"):
            path.write_bytes(b"not a database" * 1000)
        assert (await app.search("greet", "sample")).results == expected


async def test_every_kind_of_work_goes_through_its_cache(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample", SAMPLE)
    async with app_at(tmp_path / "home") as app:
        await app.index(str(project))
        await app.search("greet", "sample")
        await app.list_projects()
        kinds = {row.pattern.split(":")[1] for row in await app.list_keys()}
        assert kinds == {"embedding", "search", "project", "file"}


async def test_an_answer_without_hits_looks_at_everything(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as app:
        await app.index(str(project))
        watched = app.indexes.try_lock("sample", "watch")  # so that no search looks by itself
        assert watched is not None
        assert (await app.search("zyzzyva", "sample", mode="keyword")).results == ()
        (project / "new.py").write_text("def zyzzyva():\n    return 1\n")
        (hit,) = (await app.search("zyzzyva", "sample", mode="keyword")).results
        assert hit.path == "new.py"
        watched.release()


async def test_a_name_that_another_process_gave_to_another_root(tmp_path: Path) -> None:
    first = make_project(tmp_path / "a" / "sample")
    second = make_project(tmp_path / "b" / "sample", {"only.py": "def greet():\n    return 1\n"})
    async with app_at(tmp_path / "home") as one, app_at(tmp_path / "home") as two:
        await one.index(str(first))
        assert len((await two.search("greet", "sample")).results) > 1
        await one.forget("sample")
        with pytest.raises(ProjectNotFoundError):
            await two.search("greet", "sample")
        await one.index(str(second))
        answer = await two.search("greet", "sample")
        assert [hit.path for hit in answer.results] == ["only.py"]
        (second / "only.py").write_text("def greet():\n    return 22\n")
        assert "22" in (await two.search("greet", "sample")).results[0].text
