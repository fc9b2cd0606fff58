"""SIGTERM under load, once and twice, with Redis up, hanging or gone: what is kept is in Redis,
and the end is clean and in time.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.live.fault_judge import now
from tests.live.fault_kit import LOCKED, cache_at, sizes, soaked, url_of
from tests.live.fault_report import Findings, findings
from tests.live.serving import Client, served
from tests.redis_kit import RedisServer, redis_server
from tests.unit.usecases.app_kit import make_project

pytestmark = [pytest.mark.asyncio, pytest.mark.live, pytest.mark.alone]

ROOT = Path(__file__).parents[2]
MOST_S = 5.0


@pytest.mark.parametrize("count", sizes(1, 30))
@pytest.mark.parametrize("twice", [False, soaked(True)], ids=["once", "twice"])
async def test_serve_is_told_to_end_under_load(
    count: int,
    twice: bool,  # noqa: FBT001 -- a case
    tmp_path: Path,
) -> None:
    project = make_project(tmp_path / "sample")
    rng = random.Random(58)
    what = f"SIGTERM to `querycache serve`{', twice' if twice else ''}"
    async with redis_server(*LOCKED) as redis:
        with findings("F58", 58, what) as found:
            for number in range(count):
                home = tmp_path / f"home{number % 5}"
                with served(home, project, REDIS_URL=url_of(redis)) as server:
                    await asyncio.to_thread(server.ready, "greet a person", "sample")
                    with Client(server, ["greet", "settings", "server"], "sample") as client:
                        await asyncio.sleep(0.1 + rng.random() * 0.3)
                        if twice:
                            server.process.send_signal(signal.SIGTERM)
                        took = await asyncio.to_thread(server.end)
                    found.took(took, "end")
                    found.trials += 1
                    if took > MOST_S or not client.durations:
                        found.wrong(f"{took:.1f} s to end")


@pytest.mark.parametrize("count", sizes(1, 25))
@pytest.mark.parametrize("redis_is", ["up", "gone", soaked("frozen")])
async def test_a_service_is_told_to_end_under_load(
    count: int, redis_is: str, tmp_path: Path
) -> None:
    with findings("F58", 59, f"SIGTERM to a service, Redis {redis_is}") as found:
        for number in range(count):
            async with redis_server(*LOCKED) as redis:
                await one_end(redis, found, redis_is, tmp_path / f"home{number}")


async def one_end(redis: RedisServer, found: Findings, redis_is: str, home: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-X", "dev", "-m", "tests.live.fault_process", "service", str(home), url_of(redis)),
        cwd=ROOT,
        env={**os.environ, "CACHE_WRITE_STRATEGY": "WRITE_BACK"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"open\n"
    await asyncio.sleep(0.5)
    if redis_is == "frozen":
        redis.freeze()
    elif redis_is == "gone":
        await redis.kill()
    process.terminate()
    began = now()
    out, said = await process.communicate()
    took = now() - began
    found.took(took, "end")
    found.trials += 1
    errors = said.decode()
    if took > MOST_S or process.returncode or "was destroyed" in errors or "Traceback" in errors:
        found.wrong(f"{took:.1f} s, status {process.returncode}: {errors[-300:]}")
    if redis_is == "up":
        await all_kept(redis, found, json.loads(out)["kept"], home.parent / "reader")


async def all_kept(redis: RedisServer, found: Findings, kept: dict[str, Any], home: Path) -> None:
    async with cache_at(home, REDIS_URL=url_of(redis)) as app:
        values = await app.remember.get_batch(list(kept))
    lost = [key for key, number in kept.items() if values.get(key) != number]
    if lost or not kept:
        found.wrong(f"I5 {len(lost)} of {len(kept)} are not in Redis, such as {lost[:3]}")
