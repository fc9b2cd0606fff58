"""An event loop that stood still has not read its news: its first hit must not be an old one."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from tests.redis_kit import RedisServer, redis_server

from querycache.assembly import App
from querycache.config import load_config
from querycache.tiers.redis.tracking import HEARS_S

pytestmark = [pytest.mark.live, pytest.mark.alone]


def app_on(server: RedisServer, home: Path) -> App:
    environ = {"QUERYCACHE_HOME": str(home), "HOME": str(home), "REDIS_URL": server.url}
    return App(load_config(environ, cwd=home).config)


def test_what_others_changed_while_a_loop_stood_still_is_seen(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    with asyncio.Runner() as here, asyncio.Runner() as there:
        context = redis_server()
        server = there.run(context.__aenter__())
        try:
            app = app_on(server, ours)
            here.run(app.remember.set("k", "old"))
            here.run(app.remember.get("k"))
            assert here.run(app.remember.find("k")).tier == "l1"

            async def change() -> None:
                other = app_on(server, theirs)
                assert await other.remember.set("k", "new")
                await other.close()

            there.run(change())
            paused = time.monotonic() + HEARS_S
            while time.monotonic() < paused:
                time.sleep(0.05)
            assert here.run(app.remember.get("k")) == "new"
            here.run(app.close())
        finally:
            there.run(context.__aexit__(None, None, None))
