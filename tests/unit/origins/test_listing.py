"""Names come from git where there is git, else from a walk that rules out the same."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from querycache.origins import listing
from querycache.origins.listing import git_names, walked_names


def test_git_says_nothing_outside_a_repository(tmp_path: Path):
    assert git_names(str(tmp_path)) is None
    assert git_names(str(tmp_path / "missing")) is None


def test_git_that_is_not_installed_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(listing.ENVIRONMENT, "PATH", str(tmp_path))
    assert git_names(str(tmp_path)) is None


def test_git_is_not_led_astray_by_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("here", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").touch()
        subprocess.run(["git", "init", "-q", str(tmp_path / name)], check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    assert git_names(str(tmp_path / "here")) == [b"here.py"]


def test_a_walk_prunes_folders_and_counts_them(tmp_path: Path):
    for path in ("a/b.py", "node_modules/x/c.js", "build/d.py", ".git/config", "skip/e.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / ".gitignore").write_text("skip/\n")
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "a" / os.fsdecode(b"\xff")).touch()
    skipped: Counter[str] = Counter()
    names = walked_names(str(tmp_path), skipped)
    assert sorted(names) == [b".gitignore", b"a/b.py", b"a/\xff", b"loop"]
    assert +skipped == {"vendored": 2}
