"""Watching keeps the index up to date; who watches is one process, and another takes over."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.unit.usecases.app_kit import app_at, make_project

from querycache.assembly import App
from querycache.errors import NotAvailableError, UsageError
from querycache.testing import FakeClock
from querycache.usecases.watch_files import WatchFiles

pytestmark = pytest.mark.asyncio


async def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 -- a condition of the world, with a deadline
            await asyncio.sleep(0.01)


def change(app: App) -> int:
    return app.indexes.open("sample").state().change if "sample" in app.indexes.names() else -1


async def test_edits_new_files_and_deletions_are_followed(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as app, app.running([str(project)]):
        watched = app.watch_files.watched
        await until(lambda: "sample" in watched and watched["sample"].sweeps > 0)
        for step in (
            lambda: (project / "app/greeting.py").write_text("def wave():\n    return 'bye'\n"),
            lambda: (project / "app/new.py").write_text("def fresh():\n    return 1\n"),
            (project / "notes.txt").unlink,
            lambda: (project / "app/new.py").rename(project / "app/newer.py"),
        ):
            before = change(app)
            step()
            await until(lambda before=before: change(app) > before)
        await until(lambda: "app/newer.py" in app.indexes.open("sample").known())
        paths = set(app.indexes.open("sample").known())
        assert not paths & {"notes.txt", "app/new.py"}
        assert watched["sample"].watching
        assert watched["sample"].error == ""


async def test_another_process_takes_over(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as one, app_at(tmp_path / "home") as two:
        lock = one.indexes.try_lock("sample", "watch")
        assert lock is not None
        following = asyncio.ensure_future(two.follow(str(project)))
        await until(lambda: "sample" in two.watch_files.watched)
        assert not two.watch_files.watched["sample"].watching
        lock.release()
        await until(lambda: two.watch_files.watched["sample"].sweeps > 0)
        assert two.watch_files.watched["sample"].watching
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_a_home_that_is_wiped_under_a_server_is_filled_again(tmp_path: Path) -> None:
    project, home = make_project(tmp_path / "sample"), tmp_path / "home"
    async with app_at(home) as app, app.running([str(project)]):
        await until(lambda: "sample" in app.watch_files.watched)
        await until(lambda: app.watch_files.watched["sample"].sweeps > 0)
        before = await app.search("greet", "sample")
        shutil.rmtree(home)
        for project_asked in ("sample", ""):
            after = await app.search("greet", project_asked)
            assert after.results == before.results


async def test_a_home_that_can_not_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    async with app_at(tmp_path / "home") as app:
        with pytest.raises(NotAvailableError, match="home"):
            await app.search("greet")
        await app.remember.set("k", "v")
        assert await app.remember.get("k") == "v"


class QuietWatcher:
    """Reports what it is told to."""

    def __init__(self) -> None:
        self.batches: asyncio.Queue[frozenset[str]] = asyncio.Queue()

    async def watch(self, root: str, accepts: object):  # noqa: ARG002 -- an async generator
        while True:
            yield await self.batches.get()


async def nothing(_: Sequence[str] | None) -> None:
    """A look that finds nothing."""


async def test_what_changes_is_looked_at_while_the_last_is_settled(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    watcher, gate = QuietWatcher(), asyncio.Event()
    looked: list[Sequence[str] | None] = []
    settled: list[Sequence[str] | None] = []

    async def look(paths: Sequence[str] | None) -> None:
        looked.append(paths)

    async def settle(paths: Sequence[str] | None) -> Sequence[float]:
        settled.append(paths)
        await gate.wait()
        return []

    async with app_at(tmp_path / "home") as app:
        watch = WatchFiles(
            indexes=app.indexes, watcher=watcher, clock=FakeClock(), sweep_interval_s=30.0
        )
        files = app.files_of(str(project))
        running = asyncio.ensure_future(watch("sample", files, look, settle))
        await until(lambda: len(settled) == 1)
        for name in ("a", "b"):
            watcher.batches.put_nowait(frozenset({name}))
            await until(lambda name=name: looked[-1] == [name])
        gate.set()
        await until(lambda: len(settled) == 2)
        assert (looked, settled) == ([None, ["a"], ["b"]], [None, ["a", "b"]])
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_lost_events_and_time_lead_to_a_look_at_everything(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    clock, watcher = FakeClock(), QuietWatcher()
    asked: list[Sequence[str] | None] = []

    async def settle(paths: Sequence[str] | None) -> Sequence[float]:
        asked.append(paths)
        if len(asked) == 2:
            raise UsageError("the disk is gone")
        return [0.25, 0.5] if len(asked) == 3 else []

    async with app_at(tmp_path / "home") as app:
        watch = WatchFiles(
            indexes=app.indexes, watcher=watcher, clock=clock, sweep_interval_s=30.0
        )
        files = app.files_of(str(project))
        running = asyncio.ensure_future(watch("sample", files, nothing, settle))
        await until(lambda: len(asked) == 1)
        watcher.batches.put_nowait(frozenset({"b", "a"}))
        await until(lambda: len(asked) == 2)
        assert "the disk is gone" in watch.watched["sample"].error
        watcher.batches.put_nowait(frozenset())
        await until(lambda: len(asked) == 3)
        assert watch.watched["sample"].error == ""
        await clock.advance(31.0)
        await until(lambda: len(asked) == 4)
        assert asked == [None, ["a", "b"], None, None]
        told = watch.watched["sample"].told()
        assert (told["lag_ms_p50"], told["lag_ms_max"]) == (500.0, 500.0)
        assert (told["batches"], told["sweeps"], told["listening"]) == (1, 3, True)
        assert told["last_event_at"] == clock.wall() - 31.0
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert not watch.watched["sample"].alive


async def test_watching_that_breaks_is_told_and_begins_anew(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    clock, watcher = FakeClock(), QuietWatcher()
    asked: list[Sequence[str] | None] = []

    async def look(paths: Sequence[str] | None) -> None:
        asked.append(paths)
        if len(asked) == 1:
            raise ValueError("a defect")

    async def settle(_: Sequence[str] | None) -> Sequence[float]:
        return []

    async with app_at(tmp_path / "home") as app:
        watch = app.__dict__["watch_files"] = WatchFiles(
            indexes=app.indexes, watcher=watcher, clock=clock, sweep_interval_s=30.0
        )
        files = app.files_of(str(project))
        running = asyncio.ensure_future(watch("sample", files, look, settle))
        await until(lambda: len(asked) == 1)
        await until(lambda: not watch.watched["sample"].watching)
        assert watch.watched["sample"].error == "ValueError: a defect"
        assert any(
            str(project) in line and "a defect" in line
            for line in (await app.status.health()).problems
        )
        await clock.advance(3.0)
        await until(lambda: len(asked) == 2)
        await until(lambda: watch.watched["sample"].error == "")
        assert watch.watched["sample"].watching
        assert not (await app.status.health()).problems
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert any("nobody watches" in line for line in (await app.status.health()).problems)


async def test_a_root_that_went_is_told_until_it_is_back(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as app, app.running([str(project)]):
        watched = app.watch_files.watched
        await until(lambda: "sample" in watched and watched["sample"].listening)
        project.rename(tmp_path / "away")
        await until(lambda: "folder is gone" in watched["sample"].error)
        (tmp_path / "away").rename(project)
        await until(lambda: watched["sample"].error == "")
