"""What was derived from a file is gone within moments of its change, and only then."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.unit.usecases.app_kit import app_at, make_project

from querycache.assembly import App
from querycache.clock import SystemClock
from querycache.errors import UsageError
from querycache.events import Event, FileChanged
from querycache.origins.file_watcher import FileWatcher
from querycache.origins.project import LocalProjectFiles
from querycache.ports.origins import Listed
from querycache.usecases.monitor_files import MonitorFiles, Place
from querycache.usecases.watch_files import WatchFiles

pytestmark = pytest.mark.asyncio

LATE_S = 15.0  # for a busy machine; tests/live has the limit that is promised


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = LATE_S) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 -- a condition of the world, with a deadline
            await asyncio.sleep(0.01)


async def remember(app: App, paths: Sequence[Path | str]) -> None:
    for path in paths:
        await app.remember.set(f"file:{path}", f"of {path}")


async def all_gone(app: App, paths: Sequence[Path | str]) -> bool:
    return not await app.remember.get_batch([f"file:{path}" for path in paths])


def changes(app: App) -> dict[str, FileChanged]:
    events = [event for _, event in app.ring.events() if isinstance(event, FileChanged)]
    return {event.key: event for event in events}


async def quiet(app: App, root: Path) -> None:
    """Returns when all that was changed before has been looked at, and its hash learned."""
    mark = root / "mark.py"
    mark.write_text(os.urandom(8).hex())
    await remember(app, [mark])
    mark.write_text(os.urandom(8).hex())
    await until(lambda: all_gone(app, [mark]))


@asynccontextmanager
async def monitoring(
    tmp_path: Path, root: Path, **variables: str
) -> AsyncGenerator[tuple[App, App]]:
    """One process that monitors, and another one."""
    home = tmp_path / "home"
    async with app_at(home, **variables) as one, app_at(home, **variables) as two:
        await one.watching.start([str(root)])
        await quiet(one, root)
        await quiet(one, root)  # the first may have ended amid what `start` began
        yield one, two


async def test_edits_renames_and_deletions_are_seen_by_every_process(tmp_path: Path) -> None:
    root = make_project(tmp_path / "loose")
    edited, moved, deleted = root / "app/greeting.py", root / "notes.txt", root / "README.md"
    other = root / "app/settings.py"
    async with monitoring(tmp_path, root) as (one, two):
        await remember(one, [edited, moved, deleted, other])
        await two.remember.set("tagged", 1, tags=[f"file:{edited}"])
        assert await two.remember.get_batch([f"file:{edited}", f"file:{other}"])
        edited.write_text("def wave():\n    return 'bye'\n")
        moved.rename(root / "moved.txt")
        deleted.unlink()
        for app in (one, two):
            await until(lambda app=app: all_gone(app, [edited, moved, deleted]))
            assert await app.remember.get("tagged") is None
            assert await app.remember.get(f"file:{other}") == f"of {other}"
        await until(lambda: _told(one, [edited, moved, deleted, root / "moved.txt"]))
        assert all(0.0 <= event.lag_s < LATE_S for event in changes(one).values())
        assert one.ring.counts["FileChanged"] >= 4
        told = (await one.explain_key(f"file:{edited}")).events
        assert any(isinstance(event, FileChanged) for _, _, event in told)
        (row,) = one.watching.told()
        assert (row["root"], row["alive"], row["listening"]) == (str(root), True, True)
        assert isinstance(row["lag_ms_max"], float)
        assert one.told()["watching"] == [row]
        await one.watching.stop()
        assert one.watching.told() == []


async def _told(app: App, paths: Sequence[Path]) -> bool:
    return {str(path) for path in paths} <= changes(app).keys()


async def test_a_file_that_is_saved_unchanged_loses_nothing(tmp_path: Path) -> None:
    root = make_project(tmp_path / "loose")
    plain, atomic = root / "app/greeting.py", root / "README.md"
    async with monitoring(tmp_path, root) as (one, _):
        await remember(one, [plain, atomic])
        for path in (plain, atomic):
            saved(path, "from now on\n")  # never seen empty, as what is truncated first may be
        await until(lambda: all_gone(one, [plain, atomic]))
        await until(lambda: _told(one, [plain, atomic]))
        await remember(one, [plain, atomic])
        counted = one.ring.counts["FileChanged"]
        with plain.open("r+") as file:
            file.write("from now on\n")
        os.utime(plain)
        saved(atomic, atomic.read_text())
        await quiet(one, root)
        kept = await one.remember.get_batch([f"file:{plain}", f"file:{atomic}"])
        assert len(kept) == 2
        assert {str(plain), str(atomic)}.isdisjoint(told_since(one, counted))
        saved(atomic, "# Other\n")
        await until(lambda: all_gone(one, [atomic]))


def saved(path: Path, text: str) -> None:
    """Saves as editors do, by moving a new file into the old one's place."""
    draft = path.with_name(f"{path.name}.tmp")
    draft.write_text(text)
    draft.replace(path)


def told_since(app: App, counted: int) -> set[str]:
    events = [event for _, event in app.ring.events() if isinstance(event, FileChanged)]
    return {event.key for event in events[counted:]}


async def test_what_git_ignores_is_passed_over(tmp_path: Path) -> None:
    root = make_project(tmp_path / "loose", {"a.py": "a = 1\n", "sub/b.py": "b = 1\n"})
    (root / ".gitignore").write_text("*.log\nbuild/\n")
    (root / "sub/.gitignore").write_text("made.py\n")
    ignored = [root / "x.log", root / "build/out.py", root / "sub/made.py"]
    async with monitoring(tmp_path, root) as (one, _):
        await remember(one, ignored)
        (root / "build").mkdir()
        for path in ignored:
            path.write_text("changed = 1\n")
        await quiet(one, root)
        assert not changes(one).keys() & {str(path) for path in ignored}
        assert len(await one.remember.get_batch([f"file:{path}" for path in ignored])) == 3


async def test_a_folder_takes_its_files_with_it_and_a_link_has_two_names(tmp_path: Path) -> None:
    root = make_project(tmp_path / "real")
    link = tmp_path / "link"
    link.symlink_to(root)
    inside = [root / "app/greeting.py", root / "app/settings.py"]
    async with monitoring(tmp_path, link) as (one, _):
        await remember(one, [*inside, link / "app/greeting.py", link / "notes.txt"])
        (root / "app").rename(tmp_path / "elsewhere")
        await until(lambda: all_gone(one, [*inside, link / "app/greeting.py"]))
        assert not await all_gone(one, [link / "notes.txt"])


NAMES = ("*.py", "a[b].py", "ü.py", "a:b.py", "-rf.py", "{x}.py", " lead.py", "%2A.py")
REFUSED = ("new\nline.py", os.fsdecode(b"not-utf8-\xff.py"))  # in indexes, too


async def test_names_that_look_like_something_else(tmp_path: Path) -> None:
    files = dict.fromkeys((*NAMES, *REFUSED, "plain.py"), "a = 1\n")
    root = make_project(tmp_path / "loose", files)
    async with monitoring(tmp_path, root) as (one, _):
        paths = [root / name for name in NAMES]
        await remember(one, [*paths, root / "plain.py"])
        for name in (*REFUSED, *NAMES):
            (root / name).write_text("a = 2\n")
        await until(lambda: all_gone(one, paths))
        await quiet(one, root)
        assert not await all_gone(one, [root / "plain.py"])


async def test_a_storm_leaves_nothing_behind(tmp_path: Path) -> None:
    names = [f"pkg{number % 20}/f{number}.py" for number in range(400)]
    root = make_project(tmp_path / "loose", dict.fromkeys(names, "a = 1\n"))
    choose = random.Random(7)  # noqa: S311 -- a repeatable storm
    touched = choose.sample(names, 300)
    async with monitoring(tmp_path, root) as (one, two):
        await remember(one, [root / name for name in names])
        for name in touched:
            path = root / name
            dice = choose.random()
            if dice < 0.3:
                path.unlink()
            elif dice < 0.6:
                path.rename(path.with_suffix(".txt"))
            else:
                path.write_text(f"a = {dice}\n")
        await until(lambda: all_gone(two, [root / name for name in touched]))
        kept = [root / name for name in names if name not in touched]
        assert len(await two.remember.get_batch([f"file:{path}" for path in kept])) == 100


async def test_what_the_watcher_loses_is_found_by_looking_at_everything(tmp_path: Path) -> None:
    names = [f"f{number}.py" for number in range(40)]
    root = make_project(tmp_path / "loose", dict.fromkeys(names, "a = 1\n"))
    async with app_at(tmp_path / "home") as app:
        app.__dict__["watch_files"] = WatchFiles(
            indexes=app.indexes,
            watcher=FileWatcher(flood=5),
            clock=app.clock,
            sweep_interval_s=3600.0,
        )
        await app.watching.start([str(root)])
        await quiet(app, root)
        (state,) = app.watch_files.monitored.values()
        sweeps = state.sweeps
        await remember(app, [root / name for name in names])
        for name in names:
            (root / name).write_text("a = 2\n")
        await until(lambda: all_gone(app, [root / name for name in names]))
        assert state.sweeps > sweeps


async def test_an_index_that_nobody_watches_is_brought_up(tmp_path: Path) -> None:
    root = make_project(tmp_path / "parent/sample")
    async with app_at(tmp_path / "home") as one, app_at(tmp_path / "home") as two:
        await one.index(str(root))
        await one.watching.start([str(tmp_path / "parent")])
        await quiet(one, tmp_path / "parent")
        assert (await two.search("greet", "sample")).results
        (root / "app/greeting.py").write_text("def astonish():\n    return 1\n")

        await until(lambda: _named(one, root / "app/greeting.py", "sample"))
        lock = one.indexes.try_lock("sample", "watch")  # so that no search looks by itself
        assert lock is not None
        found = await two.search("astonish", "sample")
        assert found.results[0].path == "app/greeting.py"
        assert not found.cache.hit
        lock.release()


def _told_of(app: App, path: Path) -> str | None:
    event = changes(app).get(str(path))
    return event.project if event else None


async def test_a_project_that_is_followed_loses_what_is_remembered_of_its_files(
    tmp_path: Path,
) -> None:
    root = make_project(tmp_path / "sample")
    path = root / "app/greeting.py"
    async with app_at(tmp_path / "home") as one, app_at(tmp_path / "home") as two:
        async with one.running([str(root)]):
            watched = one.watch_files.watched
            async with asyncio.timeout(LATE_S):
                while not ("sample" in watched and watched["sample"].sweeps > 1):  # noqa: ASYNC110 -- a condition
                    await asyncio.sleep(0.01)
            await remember(two, [path, root / "notes.txt"])
            await two.search("greet", "sample")
            path.write_text("def astonish():\n    return 1\n")
            await until(lambda: _named(one, path, "sample"))
            assert await all_gone(two, [path])
            assert not await all_gone(two, [root / "notes.txt"])
            assert not (await two.search("greet", "sample")).cache.hit
            assert watched["sample"].lags_ms
        assert one.watching.told() == []


async def test_a_search_that_is_faster_than_the_watch_hides_no_change(tmp_path: Path) -> None:
    root = make_project(tmp_path / "sample")
    path = root / "app/greeting.py"
    home = tmp_path / "home"
    async with app_at(home) as one, app_at(home) as two:
        watcher = QuietWatcher()
        one.__dict__["watch_files"] = WatchFiles(
            indexes=one.indexes, watcher=watcher, clock=one.clock, sweep_interval_s=300.0
        )
        async with one.running([str(root)]):
            await until(lambda: _swept(one, 1))
            await remember(two, [path])
            path.write_text("def greet():\n    return 'changed'\n")
            assert "changed" in (await two.search("greet", "sample")).results[0].text
            watcher.batches.put_nowait(frozenset({"app/greeting.py"}))
            await until(lambda: all_gone(two, [path]))


class QuietWatcher:
    """Reports what it is told to."""

    def __init__(self) -> None:
        self.batches: asyncio.Queue[frozenset[str]] = asyncio.Queue()

    async def watch(self, root: str, accepts: object):  # noqa: ARG002 -- an async generator
        while True:
            yield await self.batches.get()


async def _swept(app: App, times: int) -> bool:
    return (
        "sample" in app.watch_files.watched and app.watch_files.watched["sample"].sweeps >= times
    )


async def _named(app: App, path: Path, project: str) -> bool:
    return _told_of(app, path) == project


async def test_only_folders_can_be_watched(tmp_path: Path) -> None:
    async with app_at(tmp_path / "home") as app:
        with pytest.raises(UsageError, match="not a folder"):
            await app.watching.start([str(tmp_path / "absent")])
        await app.watching.stop()
        assert app.told()["watching"] == []


async def test_a_stop_overtakes_a_start(tmp_path: Path) -> None:
    roots = [str(make_project(tmp_path / name)) for name in "ab"]
    async with app_at(tmp_path / "home") as app, asyncio.timeout(LATE_S):
        starting = asyncio.ensure_future(app.watching.start(roots))
        await until(_begun(app, roots))
        await app.watching.stop()
        await starting
        assert app.told()["watching"] == []


def _begun(app: App, roots: Sequence[str]) -> Callable[[], Awaitable[bool]]:
    async def begun() -> bool:
        return app.watch_files.monitored.keys() == set(roots)

    return begun


class Observer:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


async def test_the_hash_decides_once_it_is_learned(tmp_path: Path) -> None:
    root = make_project(tmp_path / "loose", {"a.py": "a = 1\n", "b.py": "b = 1\n"})
    cuts: list[Sequence[str]] = []

    async def cut(paths: Sequence[str]) -> int:
        cuts.append(paths)
        return len(paths)

    clock, observer = SystemClock(), Observer()
    monitor = MonitorFiles(cut, observer, clock)
    place = Place(LocalProjectFiles(str(root)), ["/spelled"], clock.wall() + 60.0)
    known = await monitor.begin(place)
    assert not cuts  # all is older than the watch
    await monitor.learn(place, known)
    os.utime(root / "a.py")
    looked = await monitor.look(place, known, None)
    assert (looked.changes, cuts) == ([], [])
    assert looked.known.keys() == {"a.py"}
    (root / "a.py").write_text("a = 2\n")
    looked = await monitor.look(place, known, ["a.py", "b.py"])
    assert cuts == [[f"{root}/a.py", "/spelled/a.py"]]
    (lag,) = monitor.tell(place, looked, "p")
    assert 0.0 <= lag < LATE_S
    assert observer.events == [FileChanged(f"{root}/a.py", round(lag, 4), 2, "p")]
    again = await monitor.look(place, known, ["a.py"])  # the same change, told twice
    assert again.changes == []


async def test_what_changes_while_the_watch_is_set_up_is_cut(tmp_path: Path) -> None:
    root = make_project(tmp_path / "loose", {"a.py": "a = 1\n"})
    cuts: list[str] = []

    async def cut(paths: Sequence[str]) -> int:
        cuts.extend(paths)
        return 0

    clock = SystemClock()
    monitor = MonitorFiles(cut, Observer(), clock)
    place = Place(LocalProjectFiles(str(root)), [], clock.wall())
    (root / "a.py").write_text("a = 2\n")
    await monitor.begin(place)
    assert cuts == [f"{root}/a.py"]


class Vanishing(LocalProjectFiles):
    """Its files go as soon as they are listed."""

    def list(self) -> Listed:
        listed = super().list()
        for file in listed.files:
            Path(self.root, file.path).unlink()
        return listed


async def test_a_file_that_goes_before_it_is_read_is_cut(tmp_path: Path) -> None:
    root = make_project(tmp_path / "loose", {"a.py": "a = 1\n"})
    cuts: list[str] = []

    async def cut(paths: Sequence[str]) -> int:
        cuts.extend(paths)
        return 0

    clock = SystemClock()
    monitor = MonitorFiles(cut, Observer(), clock)
    place = Place(LocalProjectFiles(str(root)), [], clock.wall() + 60.0)
    known = await monitor.begin(place)
    (root / "a.py").write_text("a = 22\n")
    gone = Place(Vanishing(str(root)), [], place.began)
    looked = await monitor.look(gone, known, None)
    assert (cuts, looked.known) == ([f"{root}/a.py"], {"a.py": None})
