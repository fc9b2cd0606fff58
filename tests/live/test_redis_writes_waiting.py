"""Writes that wait in a process while Redis is away: bounded, and there when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.live.fault_judge import now
from tests.live.fault_kit import LOCKED, sizes, under_load, url_of
from tests.redis_kit import redis_server, until

pytestmark = [pytest.mark.asyncio, pytest.mark.live, pytest.mark.alone]

MOST = 20
BEHIND: Mapping[str, str] = {
    "CACHE_WRITE_STRATEGY": "WRITE_BACK",
    "CACHE_WRITE_BACK_INTERVAL": "0.1",
    "CACHE_WRITE_BACK_MAX_ENTRIES": str(MOST),
}


@pytest.mark.parametrize("count", sizes(1, 20))
@pytest.mark.parametrize("long_s", [2.0, pytest.param(60.0, marks=pytest.mark.soak)])
async def test_a_queue_that_is_full_while_redis_is_down(long_s: float, count: int, tmp_path: Path):
    what = f"write-back, Redis down {long_s:.0f} s"
    async with (
        redis_server(*LOCKED) as server,
        under_load(
            "F26", 26, tmp_path, *[url_of(server)] * 2, what=what, variables=BEHIND
        ) as stage,
    ):
        app = stage.apps[0]
        for _ in range(max(1, int(count * 2 / long_s))):
            await asyncio.sleep(0.2)
            async with stage.outage(judged_after_s=0.2):
                await server.kill()
                over = now() + long_s
                while now() < over:
                    dirty = app.status.pending().dirty
                    stage.found.most("most_that_waited", dirty)
                    if dirty > MOST:
                        stage.found.wrong(f"I5 {dirty} wait, {MOST} may")
                    await asyncio.sleep(0.02)
                await server.start()
            await stage.healed(2.0)
            stage.pause()  # so that nothing new waits
            since = now()

            async def written() -> bool:
                return all(each.status.pending().recovery == 0 for each in stage.apps)

            await until(written, "all is told", 5)
            stage.found.most("all_told_after_s", now() - since)
            stage.resume()
