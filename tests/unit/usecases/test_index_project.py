"""Indexing pays for what changed, and for nothing else."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.unit.usecases.app_kit import SAMPLE, app_at, make_project

from querycache.errors import IndexBusyError, UsageError
from querycache.usecases.index_project import Progress

pytestmark = pytest.mark.asyncio


async def test_an_unchanged_project_costs_nothing(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as app:
        first = await app.index(str(project))
        assert (first.project, first.files, first.files_changed) == ("sample", 5, 5)
        assert first.embedded == first.chunks
        second = await app.index(str(project))
        assert (second.files_changed, second.embedded) == (0, 0)
        assert second.generation == first.generation


async def test_one_edit_embeds_its_changed_chunks_only(tmp_path: Path) -> None:
    functions = "\n\n".join(
        f"def function_{n}(argument):\n    '''{'word ' * 300} {n}'''\n    return {n}\n"
        for n in range(10)
    )
    project = make_project(tmp_path / "sample", {"a.py": functions, "b.py": "x = 1\n"})
    async with app_at(tmp_path / "home") as app:
        first = await app.index(str(project))
        assert first.chunks > 5
        (project / "a.py").write_text(functions.replace("return 3", "return 33"))
        second = await app.index(str(project))
        assert (second.files_changed, second.embedded) == (1, 1)
        assert second.generation > first.generation


async def test_touching_a_file_changes_nothing(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as app:
        first = await app.index(str(project))
        os.utime(project / "notes.txt", (1, 1))
        second = await app.index(str(project))
        assert (second.files_changed, second.generation) == (0, first.generation)
        third = await app.index(str(project))
        assert third.files_changed == 0


async def test_a_removed_file_leaves_and_a_new_one_comes(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as app:
        await app.index(str(project))
        (project / "notes.txt").unlink()
        (project / "more.py").write_text("def more():\n    return 'of it'\n")
        second = await app.index(str(project))
        assert (second.files, second.files_changed, second.files_removed) == (5, 1, 1)


async def test_a_second_checkout_embeds_nothing(tmp_path: Path) -> None:
    one = make_project(tmp_path / "one")
    two = make_project(tmp_path / "two")
    async with app_at(tmp_path / "home") as app:
        first = await app.index(str(one))
        second = await app.index(str(two))
        assert first.embedded == first.chunks
        assert (second.embedded, second.embedding_cache_hits) == (0, first.chunks)


async def test_force_does_all_of_it_again(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as app:
        first = await app.index(str(project))
        again = await app.index(str(project), force=True)
        assert again.files_changed == first.files
        assert again.embedded == 0  # what the cache holds is as good as the model's answer


async def test_an_interrupted_run_keeps_what_it_did(tmp_path: Path) -> None:
    files = {f"f{n}.py": f"def function_{n}():\n    return {n}\n" for n in range(200)}
    project = make_project(tmp_path / "sample", files)
    async with app_at(tmp_path / "home") as app:
        seen: list[Progress] = []

        def interrupt(progress: Progress) -> None:
            seen.append(progress)
            if progress.done >= 64:
                running.cancel()

        running = asyncio.ensure_future(app.index(str(project), progress=interrupt))
        with pytest.raises(asyncio.CancelledError):
            await running
        rest = await app.index(str(project))
        assert rest.files == 200
        assert rest.files_changed <= 200 - 64
        assert rest.embedded + 64 <= 200


async def test_who_comes_second_waits_or_is_told(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as one, app_at(tmp_path / "home") as two:
        await one.index(str(project))
        lock = one.indexes.try_lock("sample", "index")
        assert lock is not None
        told: list[Progress] = []
        with pytest.raises(IndexBusyError):
            await two.index(str(project), progress=told.append, patience_s=0.05)
        assert told[0].waiting
        lock.release()
        assert (await two.index(str(project))).files == 5


async def test_equal_names_of_different_roots_are_different_projects(tmp_path: Path) -> None:
    one = make_project(tmp_path / "a" / "sample")
    two = make_project(tmp_path / "b" / "sample", {"only.py": "def only():\n    return 1\n"})
    async with app_at(tmp_path / "home") as app:
        first = await app.index(str(one))
        second = await app.index(str(two))
        assert first.project == "sample"
        assert second.project.startswith("sample-")
        assert len(second.project) == len("sample-") + 4
        assert (await app.index(str(two))).project == second.project
        with pytest.raises(UsageError, match="another folder"):
            await app.index(str(two), "sample")


async def test_a_project_names_itself(tmp_path: Path) -> None:
    declared = {**SAMPLE, ".querycache.toml": 'project = "shop"'}
    project = make_project(tmp_path / "checkout-7", declared)
    async with app_at(tmp_path / "home") as app:
        assert (await app.index(str(project))).project == "shop"


async def test_no_folder_is_a_clear_error(tmp_path: Path) -> None:
    async with app_at(tmp_path / "home") as app:
        with pytest.raises(UsageError, match="not a folder"):
            await app.index(str(tmp_path / "absent"))


async def test_forgetting_leaves_nothing(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as app:
        await app.index(str(project))
        await app.search("greet", "sample")
        assert await app.forget("sample")
        assert not await app.forget("sample")
        assert app.indexes.names() == []
        patterns = [row.pattern for row in await app.list_keys()]
        assert not any(":sample:" in pattern for pattern in patterns)
        assert not (tmp_path / "home" / "projects" / "sample").exists()
