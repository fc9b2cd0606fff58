"""The watcher reports what changed under a root, and says when it may have missed something."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from querycache.clock import SystemClock
from querycache.origins.file_watcher import FileWatcher
from querycache.ports.origins import Watcher

pytestmark = pytest.mark.asyncio

EVERYTHING = frozenset[str]()
DEADLINE_S = 10


def all_but_modules(path: str) -> bool:
    return "node_modules" not in path.split("/")


class Watched:
    """A running watch and all that it reported."""

    def __init__(self, batches: AsyncGenerator[frozenset[str]]) -> None:
        self._batches = batches

    async def next(self) -> frozenset[str]:
        async with asyncio.timeout(DEADLINE_S):
            return await anext(self._batches)

    async def until(self, *paths: str) -> set[str]:
        """What was reported until all of `paths` were."""
        seen: set[str] = set()
        while not seen.issuperset(paths):
            seen |= await self.next()
        return seen


@asynccontextmanager
async def watching(
    root: Path,
    watcher: FileWatcher | None = None,
    accepts: Callable[[str], bool] = all_but_modules,
) -> AsyncGenerator[Watched]:
    batches = (watcher or FileWatcher()).watch(str(root), accepts)
    watched = Watched(batches)
    try:
        assert await watched.next() == EVERYTHING  # the watch stands
        yield watched
    finally:
        await batches.aclose()


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "querycache-watch"]


async def test_it_is_a_watcher(tmp_path: Path):
    port: Watcher = FileWatcher()
    async for batch in port.watch(str(tmp_path), all_but_modules):
        assert batch == EVERYTHING
        break


async def test_it_reports_edits_new_files_and_deletes(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old.py").write_text("1")
    async with watching(tmp_path) as watched:
        (tmp_path / "a" / "old.py").write_text("2")
        await watched.until("a/old.py")
        (tmp_path / "new.py").write_text("1")
        await watched.until("new.py")
        (tmp_path / "a" / "old.py").unlink()
        await watched.until("a/old.py")


async def test_it_reports_an_atomic_save_and_a_rename(tmp_path: Path):
    (tmp_path / "a.py").write_text("1")
    async with watching(tmp_path) as watched:
        (tmp_path / ".a.py.tmp").write_text("2")
        (tmp_path / ".a.py.tmp").replace(tmp_path / "a.py")
        await watched.until("a.py")
        (tmp_path / "a.py").rename(tmp_path / "b.py")
        await watched.until("a.py", "b.py")


async def test_it_reports_what_a_folder_holds_that_comes(tmp_path: Path):
    root = tmp_path / "root"
    (root / "kept").mkdir(parents=True)
    (tmp_path / "away" / "deep").mkdir(parents=True)
    (tmp_path / "away" / "deep" / "a.py").write_text("1")
    async with watching(root) as watched:
        (tmp_path / "away").rename(root / "here")
        await watched.until("here/deep/a.py")
        (root / "here" / "deep" / "a.py").write_text("2")
        await watched.until("here/deep/a.py")
        (root / "here").rename(root / "kept" / "there")
        assert "here" in await watched.until("here", "kept/there/deep/a.py")
        (root / "kept" / "there" / "deep" / "b.py").write_text("1")
        await watched.until("kept/there/deep/b.py")
        shutil.rmtree(root / "kept")
        await watched.until("kept")
        (root / "kept").mkdir()
        (root / "kept" / "again.py").write_text("1")
        await watched.until("kept/again.py")


async def test_no_file_is_missed_in_folders_that_appear_one_in_the_other(tmp_path: Path):
    expected: list[str] = []
    async with watching(tmp_path) as watched:
        for n in range(30):
            folder = tmp_path / f"a{n}" / "b" / "c"
            folder.mkdir(parents=True)
            for place in (folder, folder.parent):
                (place / "f.py").write_text("1")
                expected.append(str((place / "f.py").relative_to(tmp_path)))
        await watched.until(*expected)


async def test_refused_folders_and_links_are_not_watched(tmp_path: Path):
    root = tmp_path / "root"
    (root / "node_modules" / "x").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    asked: list[str] = []

    def accepts(path: str) -> bool:
        asked.append(path)
        return all_but_modules(path)

    async with watching(root, accepts=accepts) as watched:
        (root / "node_modules" / "x" / "a.js").write_text("1")
        (tmp_path / "outside" / "a.py").write_text("1")
        (root / "last.py").write_text("1")
        assert await watched.until("last.py") == {"last.py"}
    assert asked.count("node_modules/") == 1
    assert not any(path.startswith(("node_modules/x", "link/")) for path in asked)


async def test_batches_are_joined_while_nobody_takes_them(tmp_path: Path):
    async with watching(tmp_path) as watched:
        for n in range(1_000):
            (tmp_path / f"{n}.py").write_text("1")
        await watched.until(*(f"{n}.py" for n in range(1_000)))


async def test_a_flood_is_followed_by_a_look_at_everything(tmp_path: Path):
    async with watching(tmp_path, FileWatcher(flood=100)) as watched:
        for n in range(300):
            (tmp_path / f"{n}.py").touch()
        while await watched.next() != EVERYTHING:
            pass


class JumpyClock(SystemClock):
    """A clock that shows an hour more each time: as if the process had been stopped."""

    def __init__(self) -> None:
        self._now = 0.0
        self.monotonic = self._next

    def _next(self) -> float:
        self._now += 3_600
        return self._now


async def test_a_pause_is_followed_by_a_look_at_everything(tmp_path: Path):
    async with watching(tmp_path, FileWatcher(clock=JumpyClock())) as watched:
        (tmp_path / "a.py").write_text("1")
        assert await watched.next() == EVERYTHING


async def test_cancelling_ends_the_thread(tmp_path: Path):
    async def follow() -> None:
        async for _ in FileWatcher().watch(str(tmp_path), all_but_modules):
            standing.set()

    standing = asyncio.Event()
    task = asyncio.ensure_future(follow())
    await standing.wait()
    assert len(threads()) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(DEADLINE_S):
        while threads():  # noqa: ASYNC110 -- a thread's end sets no asyncio event
            await asyncio.sleep(0.005)


async def test_it_ends_when_the_root_is_gone(tmp_path: Path):
    root = tmp_path / "root"
    root.mkdir()
    seen: list[frozenset[str]] = []
    async with asyncio.timeout(DEADLINE_S):
        async for batch in FileWatcher().watch(str(root), all_but_modules):
            seen.append(batch)
            shutil.rmtree(root, ignore_errors=True)
        assert seen[-1] == EVERYTHING
        async for batch in FileWatcher().watch(str(root), all_but_modules):
            assert batch == EVERYTHING


POLLING = """
import asyncio, sys
from pathlib import Path
from querycache.origins.file_watcher import FileWatcher

async def main(root):
    watcher = FileWatcher(poll_delay_ms=50)
    batches = watcher.watch(root, lambda path: True)
    assert await anext(batches) == frozenset()
    assert watcher.mode == "polling", watcher.mode

    async def until(path):
        while path not in await anext(batches):
            pass

    for path in ("a.py", "old9/b.py", "new/c.py", "new/d.py"):
        Path(root, path).parent.mkdir(exist_ok=True)
        Path(root, path).write_text("1")
        await until(path)
    await batches.aclose()

asyncio.run(asyncio.wait_for(main(sys.argv[1]), 20))
"""


@pytest.mark.parametrize(("limit", "left"), [("instances", 0), ("watches", 5)])
async def test_where_inotify_is_used_up_it_polls(tmp_path: Path, limit: str, left: int):
    for n in range(10):
        (tmp_path / f"old{n}").mkdir()
    # A user namespace has limits of its own.
    script = f'echo {left} > /proc/sys/user/max_inotify_{limit} || exit 77; exec "$@"'
    inside = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"]
    done = await asyncio.to_thread(
        subprocess.run,
        [*inside, sys.executable, "-c", POLLING, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no user namespaces here: {done.stderr}")
    assert done.returncode == 0, done.stderr
