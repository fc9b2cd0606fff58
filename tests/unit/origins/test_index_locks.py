"""File locks."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from querycache.origins.index_locks import held, take, try_take


def test_it_is_held_by_one_until_released(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    lock = try_take(path)
    assert lock is not None
    assert try_take(path) is None
    lock.release()
    with held(path):
        assert try_take(path) is None
    again = try_take(path)
    assert again is not None
    again.release()


def test_a_lock_that_is_dropped_is_free(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    assert try_take(path) is not None  # nobody keeps it
    lock = try_take(path)
    assert lock is not None
    lock.release()


def test_it_may_be_shared(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with held(path, shared=True), held(path, shared=True):
        assert try_take(path) is None


def test_who_waits_gets_it_next(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    lock = take(path)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(take, path)
        assert not waiting.done()
        lock.release()
        waiting.result(timeout=10).release()


def test_it_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("kept")
    (tmp_path / "lock").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="lock"):
        try_take(str(tmp_path / "lock"))
    assert (tmp_path / "target").read_text() == "kept"


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    with held(str(tmp_path / "lock")):
        assert os.stat(tmp_path / "lock").st_mode & 0o777 == 0o600  # noqa: PTH116 -- as it is
