"""The registry of living processes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil

from querycache.observe.registry import Published, Registry
from querycache.testing import FakeClock


def write(folder: Path, told: Published) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{told.pid}-{told.started * 1000:.0f}.json"
    path.write_bytes(msgspec.json.encode(told))
    return path


def test_what_is_published_is_seen(tmp_path: Path):
    clock = FakeClock(wall=1234.5)
    registry = Registry(tmp_path / "home" / "registry", "serve", clock)
    assert registry.living() == []
    assert registry.publish({"hits": 3, "events": [(1.0, "Hit")]})
    (told,) = Registry(tmp_path / "home" / "registry", "stats", clock).living()
    assert (told.pid, told.door, told.published_at) == (os.getpid(), "serve", 1234.5)
    assert told.document == {"hits": 3, "events": [[1.0, "Hit"]]}
    assert told.started == psutil.Process().create_time()


def test_only_its_user_can_read_it(tmp_path: Path):
    folder = tmp_path / "home" / "registry"
    Registry(folder, "serve", FakeClock()).publish({})
    (path,) = folder.iterdir()
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (path, folder, folder.parent)]
    assert modes == [0o600, 0o700, 0o700]


def test_at_most_once_a_second_and_only_what_changed(tmp_path: Path):
    clock = FakeClock()
    registry = Registry(tmp_path, "serve", clock)
    assert registry.publish({"n": 1})
    assert not registry.publish({"n": 2})
    clock.now += 1.0
    assert registry.publish({"n": 2})
    published_at = clock.wall()
    clock.now, clock.wall_now = clock.now + 5.0, clock.wall_now + 5.0
    assert not registry.publish({"n": 2})
    assert registry.living()[0].published_at == published_at


def test_a_file_that_was_deleted_comes_back(tmp_path: Path):
    clock = FakeClock()
    registry = Registry(tmp_path, "serve", clock)
    registry.publish({"n": 1})
    next(tmp_path.iterdir()).unlink()
    clock.now += 1.0
    assert registry.publish({"n": 1})


def test_closing_leaves_nothing_behind(tmp_path: Path):
    registry = Registry(tmp_path, "serve", FakeClock())
    registry.publish({"n": 1})
    registry.close()
    registry.close()
    assert not registry.publish({"n": 2})
    assert not list(tmp_path.iterdir())


def test_the_dead_are_dropped(tmp_path: Path):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    gone = write(tmp_path, Published(process.pid, 1000.0, "mcp", 1.0, {}))
    reused = write(tmp_path, Published(os.getpid(), 1000.0, "mcp", 1.0, {}))
    part = tmp_path / f"{process.pid}-1000000.json-part"
    part.write_bytes(b"{")
    registry = Registry(tmp_path, "stats", FakeClock())
    registry.publish({})
    assert [told.door for told in registry.living()] == ["stats"]
    assert not any(path.exists() for path in (gone, reused, part))


def test_a_zombie_is_dead(tmp_path: Path):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    child = psutil.Process(process.pid)
    write(tmp_path, Published(process.pid, child.create_time(), "mcp", 1.0, {}))
    registry = Registry(tmp_path, "stats", FakeClock())
    assert [told.pid for told in registry.living()] == [process.pid]
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert registry.living() == []
    process.communicate()


def test_what_can_not_be_read_is_passed_over(tmp_path: Path):
    strange = tmp_path / f"{os.getpid()}-1.json"
    strange.write_bytes(b'{"pid": "of another version"}')
    assert Registry(tmp_path, "stats", FakeClock()).living() == []
    assert strange.exists()


def test_a_disk_that_refuses_is_reported_and_tried_again(tmp_path: Path):
    folder = tmp_path / "registry"
    folder.write_text("a file is in the way")
    clock = FakeClock()
    registry = Registry(folder, "serve", clock)
    assert not registry.publish({"n": 1})
    assert "registry" in registry.error
    folder.unlink()
    clock.now += 1.0
    assert registry.publish({"n": 1})
    assert not registry.error


def test_processes_are_asked_for_something_until_the_request_is_withdrawn(tmp_path: Path):
    folder = tmp_path / "home" / "registry"
    asking = Registry(folder, "coherency", FakeClock())
    asked = Registry(folder, "serve", FakeClock())
    assert asked.requested("x") == 0
    first = asking.request("x")
    assert asked.requested("x") == first > 0
    assert asked.requested("y") == 0
    assert asked.living() == []
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600]
    asking.withdraw("x")
    asking.withdraw("x")
    assert asked.requested("x") == 0
