"""The background work around a server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.doors.http_kit import Peer, config_in, sample, serving

from querycache.assembly.app import App
from querycache.doors.mcp_server import background
from querycache.doors.mcp_server.background import living

pytestmark = pytest.mark.asyncio

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


async def fail_once(app: App, failed: asyncio.Event) -> None:
    """Makes the next turn of the background work fail."""
    made = app.__dict__
    keep_house = app.keep_house

    async def fail() -> None:
        made["keep_house"] = keep_house
        failed.set()
        raise RuntimeError("something broke")

    made["keep_house"] = fail
    async with asyncio.timeout(10):
        await failed.wait()


async def test_what_fails_behind_costs_no_request_and_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(background, "AGAIN_S", 0.01)
    root = sample(tmp_path / "shop")
    async with serving(config_in(tmp_path), [str(root)]) as peer:
        await fail_once(peer.app, asyncio.Event())
        await _served(peer)
        async with asyncio.timeout(10):
            while not peer.app.watch_files.watched["shop"].watching:
                await asyncio.to_thread(lambda: None)
        await _served(peer)
    assert "something broke" in caplog.text
    assert "it starts again" in caplog.text


async def test_what_fails_behind_ends_no_load_and_closes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(background, "AGAIN_S", 0.01)
    app = App(config_in(tmp_path))
    started, gate = asyncio.Event(), asyncio.Event()

    async def load() -> str:
        started.set()
        await gate.wait()
        return "loaded"

    async with living(app):
        loading = asyncio.ensure_future(app.remember.get_or_compute("k", load))
        await started.wait()
        await fail_once(app, asyncio.Event())
        async with asyncio.timeout(10):
            while "it starts again" not in caplog.text:
                await asyncio.to_thread(lambda: None)
        gate.set()
        assert await loading == "loaded"
        app.l1.clear()
        assert (await app.remember.find("k")).tier == "l2"


async def _served(peer: Peer) -> None:
    accept = "application/json, text/event-stream"
    assert (await peer.post("/mcp", CALL, Accept=accept)).status == 200
    assert (await peer.post("/search", {"query": "value added tax"})).status == 200


async def test_a_root_that_goes_away_ends_nothing(tmp_path: Path):
    app = App(config_in(tmp_path))
    async with living(app, [str(tmp_path / "nothing")], watch=False):
        assert await app.list_projects() == []
