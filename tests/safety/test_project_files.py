"""A hostile file tree is not followed outside, does not block, and starts no program."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from querycache.origins.beneath import DEEPEST, fault_of, lstat, opened
from querycache.origins.project import LocalProjectFiles

SECRET = b"SECRET" * 20
RACES = 1_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project next to a folder that it must not show."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.py").write_bytes(SECRET)
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def git(root: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", *arguments],
        cwd=root,
        check=True,
        capture_output=True,
        env={"PATH": os.defpath, "HOME": str(root)},
    )


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("../outside/a.py", "outside"),
        ("a/../../outside/a.py", "outside"),
        ("/etc/passwd", "outside"),
        ("..", "outside"),
        ("", "bad_name"),
        (".", "bad_name"),
        ("a//b", "bad_name"),
        ("a/./b", "bad_name"),
        ("a\0b", "bad_name"),
        ("a\nb", "bad_name"),
        ("a\x7fb", "bad_name"),
        ("a\udcffb", "bad_name"),
        ("a/" * DEEPEST + "b", "bad_name"),
        ("a" * 5_000, "bad_name"),
        ("..a/b..c/...", ""),
        ("é/漢字.py", ""),
        ("a b\\c.py", ""),
    ],
)
def test_names_that_lead_outside_or_forge_output_are_refused(root: Path, path: str, fault: str):
    assert fault_of(path) == fault
    if fault:
        files = LocalProjectFiles(str(root))
        assert files.read(path) is None
        assert files.stat(path) is None
        assert not files.accepts(path)


def test_links_are_not_followed(root: Path):
    (root / "file.py").symlink_to(root.parent / "outside" / "a.py")
    (root / "folder").symlink_to(root.parent / "outside")
    (root / "loop").symlink_to(".")
    (root / "inside.py").write_text("x = 1\n")
    (root / "alias.py").symlink_to("inside.py")
    files = LocalProjectFiles(str(root))
    listed = files.list()
    assert [file.path for file in listed.files] == ["inside.py"]
    assert listed.skipped == {"symlink": 4}
    for path in ("file.py", "folder/a.py", "loop/inside.py", "alias.py"):
        assert files.read(path) is None
        assert files.stat(path) is None


def test_links_that_git_tracks_files_behind_are_not_followed(root: Path):
    git(root, "init", "-q")
    (root / "folder").mkdir()
    (root / "folder" / "a.py").write_text("x = 1\n")
    git(root, "add", ".")
    shutil.rmtree(root / "folder")
    (root / "folder").symlink_to(root.parent / "outside")
    files = LocalProjectFiles(str(root))
    listed = files.list()
    assert listed.files == ()
    assert listed.skipped == {"symlink": 2}
    assert files.read("folder/a.py") is None


def test_pipes_sockets_and_devices_do_not_block(root: Path):
    os.mkfifo(root / "pipe.py")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket.py"))
        files = LocalProjectFiles(str(root))
        assert files.list().files == ()
        assert files.read("pipe.py") is None
        assert files.read("socket.py") is None
    assert LocalProjectFiles("/dev").read("zero") is None
    assert LocalProjectFiles("/dev").stat("zero") is None


@contextmanager
def swapping(first: Path, second: Path) -> Generator[None]:
    """Keeps exchanging two names by renaming, as fast as it goes."""
    stop = threading.Event()
    spare = first.with_name("spare")

    def swap() -> None:
        while not stop.is_set():
            first.rename(spare)
            second.rename(first)
            spare.rename(second)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def race(root: Path, path: str) -> int:
    """Reads `path` many times; how often there was something to read, never the secret."""
    files = LocalProjectFiles(str(root))
    seen = 0
    for _ in range(RACES):
        with opened(str(root), path) as descriptor:
            data = b"" if descriptor is None else os.read(descriptor, 1_000)
        assert SECRET not in data
        seen += bool(data)
        lstat(str(root), path)
    for _ in range(20):
        found = files.read(path)
        assert found is None or SECRET not in found.data
        assert all(file.size != len(SECRET) for file in files.list().files)
    return seen


def test_a_file_that_turns_into_a_link_is_never_read_through_it(root: Path):
    (root / "a.py").write_text("x = 1\n")
    (root / "other.py").symlink_to(root.parent / "outside" / "a.py")
    with swapping(root / "a.py", root / "other.py"):
        assert race(root, "a.py") > 0


def test_a_folder_that_turns_into_a_link_is_never_read_through_it(root: Path):
    (root / "folder").mkdir()
    (root / "folder" / "a.py").write_text("x = 1\n")
    (root / "other").symlink_to(root.parent / "outside")
    with swapping(root / "folder", root / "other"):
        assert race(root, "folder/a.py") > 0


def test_a_file_that_turns_into_a_pipe_does_not_block(root: Path):
    (root / "a.py").write_text("x = 1\n")
    os.mkfifo(root / "other.py")
    with swapping(root / "a.py", root / "other.py"):
        assert race(root, "a.py") > 0


def test_a_file_that_grows_while_it_is_read_stays_within_the_limit(root: Path):
    place = root / "a.py"
    place.write_bytes(b"x" * 10)
    files = LocalProjectFiles(str(root), max_file_bytes=100_000)
    stop = threading.Event()

    def grow() -> None:
        with place.open("ab", buffering=0) as file:
            while not stop.is_set() and file.tell() < 10_000_000:
                file.write(b"x" * 1_000)

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        for _ in range(100):
            found = files.read("a.py")
            assert found is None or len(found.data) <= 100_000
    finally:
        stop.set()
        thread.join()


def test_a_repository_can_not_start_programs(root: Path):
    trap = root.parent / "trap"
    program = root.parent / "program"
    program.write_text(f"#!/bin/sh\ntouch {trap}\n")
    program.chmod(0o755)
    git(root, "init", "-q")
    (root / "a.py").write_text("x = 1\n")
    (root / ".gitignore").write_text("*.log\n")
    git(root, "add", ".")
    git(root, "update-index", "--skip-worktree", ".gitignore")
    (root / ".gitignore").unlink()
    shutil.rmtree(root / ".git" / "objects")  # git would fetch what is missing
    (root / ".git" / "objects").mkdir()
    for setting, value in (
        ("core.fsmonitor", str(program)),
        ("core.hooksPath", str(root.parent)),
        ("core.pager", str(program)),
        ("core.sshCommand", str(program)),
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "origin"),
        ("protocol.ext.allow", "always"),
        ("remote.origin.url", f"ext::{program}"),
        ("remote.origin.promisor", "true"),
    ):
        git(root, "config", setting, value)
    assert [file.path for file in LocalProjectFiles(str(root)).list().files] == ["a.py"]
    assert not trap.exists()


def test_a_repository_of_another_user_is_listed(root: Path):
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    git(root, "init", "-q")
    (root / ".gitignore").write_text("*.py\n")
    (root / "tracked.py").write_text("x = 1\n")
    git(root, "add", "-f", ".")
    for place in (root, *root.rglob("*")):
        os.chown(place, 12345, 12345)
    found = [file.path for file in LocalProjectFiles(str(root)).list().files]
    assert found == [".gitignore", "tracked.py"]


def test_a_root_that_points_git_elsewhere_shows_nothing_of_it(root: Path):
    git(root, "init", "-q")
    (root / "a.py").write_text("x = 1\n")
    git(root, "config", "core.worktree", str(root.parent / "outside"))
    assert [file.path for file in LocalProjectFiles(str(root)).list().files] == ["a.py"]
