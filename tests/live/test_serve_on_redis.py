"""`querycache serve` on a Redis, over HTTP: it dies under a search, and nobody notices; two share
it, and each answers by its own files; and what was not written yet is, at the end.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from tests.live.fault_kit import LOCKED, SECRET, sizes, url_of
from tests.live.fault_report import findings
from tests.live.serving import Client, Served, served, wait
from tests.redis_kit import RedisServer, redis_server
from tests.unit.usecases.app_kit import make_project

pytestmark = [pytest.mark.live, pytest.mark.timeout(90)]

QUESTION = "does step 3 of 17"
EDITED = "package_3/module_17.py"


def project_in(folder: Path) -> Path:
    files = {
        f"package_{n % 7}/module_{n}.py": "\n\n".join(
            f"def function_{n}_{m}(argument):\n    '''Does step {m} of {n}.'''\n"
            f"    return argument + {n} * {m}\n"
            for m in range(4)
        )
        for n in range(18)
    }
    return make_project(folder, files)


def texts(server: Served, path: str = EDITED) -> list[str]:
    rows = server.search(QUESTION, "sample")["results"]
    return [row["text"] for row in rows if row["path"] == path]


def edit(file: Path, mark: str) -> None:
    file.write_text(re.sub(r"'''.*?oes step", f"'''{mark}: does step", file.read_text()))
    assert mark in file.read_text()


def on(server: RedisServer, **variables: str) -> dict[str, str]:
    return {"REDIS_URL": url_of(server), **variables}


def healthy(server: Served, status: str, *, connected: bool) -> bool:
    health = server.health()
    assert SECRET not in str(health)
    return (health["status"], health["redis_connected"]) == (status, connected)


@pytest.mark.asyncio
@pytest.mark.parametrize("count", sizes(1, 20))
async def test_redis_is_killed_under_a_search(count: int, tmp_path: Path):
    project = project_in(tmp_path / "sample")
    questions = [QUESTION, *(f"does step {n} of {n % 18}" for n in range(20))]
    async with redis_server(*LOCKED) as redis:
        with findings("F01", 101, "kill -9 under `querycache serve`") as found:
            with served(tmp_path / "home", project, **on(redis)) as server:
                await asyncio.to_thread(server.ready, QUESTION, "sample")
                with Client(server, questions, "sample") as client:
                    for _ in range(count):
                        await turns(server, "healthy", connected=True)
                        await redis.kill()
                        found.most("seconds_until_degraded", await turns(server, "degraded"))
                        await asyncio.sleep(0.5)
                        await redis.start()
                        found.healed(await turns(server, "healthy", connected=True))
                        found.trials += 1
                for seconds in client.durations:
                    found.took(seconds, "search")
                if client.failed:
                    found.wrong(f"I2 {len(client.failed)} searches failed: {client.failed[0]!r}")
            if SECRET in server.said:
                found.wrong("I7 the password is in the log")


async def turns(server: Served, status: str, *, connected: bool = False) -> float:
    def so() -> bool:
        return healthy(server, status, connected=connected)

    return await asyncio.to_thread(wait, so, f"health says {status}", 5)


@pytest.mark.asyncio
async def test_two_with_homes_and_checkouts_of_their_own(tmp_path: Path):
    """The same content; a file is edited under one, and each answers by its own tree."""
    ours, theirs = (project_in(tmp_path / name / "sample") for name in ("one", "two"))
    async with redis_server(*LOCKED) as redis:
        with (
            served(tmp_path / "home1", ours, **on(redis)) as one,
            served(tmp_path / "home2", theirs, **on(redis)) as two,
        ):
            await asyncio.to_thread(one.ready, QUESTION, "sample")
            await asyncio.to_thread(two.ready, QUESTION, "sample")
            await asyncio.to_thread(each_by_its_own, one, two, ours / EDITED, theirs / EDITED)


def each_by_its_own(one: Served, two: Served, ours: Path, theirs: Path) -> None:
    wait(lambda: texts(one) == texts(two) != [], "both have indexed the same")
    for round_ in range(3):
        before = texts(two)
        mark = f"Round {round_}"
        edit(ours, mark)
        assert any(mark in text for text in texts(one))  # the next answer
        assert texts(two) == before
        theirs.write_text(ours.read_text())  # pulls
        assert texts(two) == texts(one)


@pytest.mark.asyncio
async def test_two_with_homes_of_their_own_and_one_checkout(tmp_path: Path):
    project = project_in(tmp_path / "sample")
    async with redis_server(*LOCKED) as redis:
        with (
            served(tmp_path / "home1", project, **on(redis)) as one,
            served(tmp_path / "home2", project, **on(redis)) as two,
        ):
            await asyncio.to_thread(one.ready, QUESTION, "sample")
            await asyncio.to_thread(two.ready, QUESTION, "sample")
            await asyncio.to_thread(the_same, one, two, project / EDITED)


def the_same(one: Served, two: Served, edited: Path) -> None:
    wait(lambda: texts(one) == texts(two) != [], "both have indexed the same")
    for round_ in range(4):
        mark = f"Round {round_}"
        edit(edited, mark)
        for server in (one, two) if round_ % 2 else (two, one):
            found = texts(server)
            assert any(mark in text for text in found)
            assert all(text in edited.read_text() for text in found)


async def entries(redis: RedisServer) -> set[bytes]:
    names: list[bytes] = await redis.ask("KEYS", "codebase_rag:*")
    return {name for name in names if not name.startswith(b"codebase_rag:meta:")}


@pytest.mark.asyncio
async def test_what_waits_to_be_written_is_in_redis_after_sigterm(tmp_path: Path):
    """CACHE_WRITE_STRATEGY=WRITE_BACK, with an interval that never comes."""
    project = project_in(tmp_path / "sample")
    settings = {"CACHE_WRITE_STRATEGY": "WRITE_BACK", "CACHE_WRITE_BACK_INTERVAL": "600"}
    async with redis_server(*LOCKED) as redis:
        with served(tmp_path / "home", project, **on(redis, **settings)) as server:
            await asyncio.to_thread(server.ready, QUESTION, "sample")
            for number in range(10):
                await asyncio.to_thread(server.search, f"does step {number}", "sample")
            dirty = (await asyncio.to_thread(server.health))["pending"]["dirty"]
            before = await entries(redis)
            assert dirty >= 10
            took = await asyncio.to_thread(server.end)
        assert took < 5
        assert len(await entries(redis) - before) == dirty
        with served(tmp_path / "home", project, **on(redis)) as server:
            await asyncio.to_thread(server.ready, QUESTION, "sample")
            answer = await asyncio.to_thread(server.search, "does step 9", "sample")
            assert answer["cache"]["tier"] == "l2"
