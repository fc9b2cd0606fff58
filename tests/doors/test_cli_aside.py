"""Work aside: its result arrives, its error too, and what hangs holds up no exit."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from querycache.doors.cli.aside import Aside


def test_results_and_errors_arrive_and_what_hangs_is_left_behind(tmp_path: Path):
    release = threading.Event()

    async def whole() -> int:
        asyncio.get_running_loop().set_default_executor(Aside())
        hanging = asyncio.ensure_future(asyncio.to_thread(release.wait))
        with pytest.raises(FileNotFoundError):
            await asyncio.to_thread((tmp_path / "none").read_bytes)
        found = await asyncio.to_thread(lambda: 7)
        assert not hanging.done()
        return found

    try:
        assert asyncio.run(whole()) == 7  # and the loop's end waited for nothing
    finally:
        release.set()
