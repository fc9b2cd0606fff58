"""The cache in a Flask application, whose async routes each have an event loop of their own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from flask import Flask

from querycache import get_cache_service

ROUNDS = 5


@pytest.mark.parametrize("debug", [False, True])
def test_a_loop_for_each_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, debug: bool
) -> None:
    monkeypatch.setenv("QUERYCACHE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    if debug:
        monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    web = Flask(__name__)
    loops: set[int] = set()
    kept: list[object] = []

    async def metrics() -> dict[str, object]:
        kept.append(asyncio.get_running_loop())  # so that no two have one address
        loops.add(id(kept[-1]))
        service = await get_cache_service()
        found = await service.get("question")
        if found is None:
            await service.set("question", "answer")
        stats = service.get_stats()
        health = await service.get_health()
        return {"hits": stats.hit_count, "found": found, "status": health.status}

    web.add_url_rule("/metrics/cache", view_func=metrics)
    client = web.test_client()
    answers = [client.get("/metrics/cache") for _ in range(ROUNDS)]
    assert [answer.status_code for answer in answers] == [200] * ROUNDS
    told = [answer.get_json() for answer in answers]
    assert [one["found"] for one in told] == [None, *["answer"] * (ROUNDS - 1)]
    assert told[-1]["hits"] == ROUNDS - 1
    assert {one["status"] for one in told} == {"healthy"}
    assert len(loops) == ROUNDS
    asyncio.run(ended())


async def ended() -> None:
    await (await get_cache_service()).shutdown()
