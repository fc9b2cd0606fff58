"""Each problem of the cache and of what is around it, made for real: the doctor names that one,
and no other.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import re
import shutil
import subprocess
import threading
from pathlib import Path

import msgspec
import pytest
from tests.doors.cli_kit import command, environment, write
from tests.doors.http_kit import config_in
from tests.live.doctor_kit import BOUNDED, examined, named, opened, reach
from tests.redis_kit import redis_server, until

from querycache import AccessDeniedError
from querycache.assembly import App, doctor
from querycache.testing import FakeClock

pytestmark = [pytest.mark.asyncio, pytest.mark.live]

KEYS = [base64.b64encode(random.Random(seed).randbytes(32)).decode() for seed in (1, 2)]


async def test_a_cache_that_nothing_is_wrong_with(tmp_path: Path):
    async with opened(tmp_path) as app:
        await app.index(str(write(tmp_path / "shop")))
        await app.search("where are settings read")
        for number in range(50):
            await app.remember.set(f"k{number}", number)
        for number in range(150):
            assert await app.remember.get(f"k{number % 50}") == number % 50
        found = await app.diagnose()
    assert named(found) == []
    assert len(found.checks) == 15
    assert found.took_ms < 10_000


async def test_too_many_reads_miss_and_why(tmp_path: Path):
    async with opened(tmp_path) as app:
        for number in range(120):
            assert await app.remember.get(f"report:{number}") is None
        found = await app.diagnose()
    assert named(found) == ["hit_rate.low"]
    assert "0.0% of 120 reads hit" in found.findings[0].evidence
    assert "other 0% of 120 (misses: 120 absent)" in found.findings[0].evidence


async def test_reads_that_miss_what_expired(tmp_path: Path):
    clock = FakeClock(wall=1_900_000_000.0)
    app = App(config_in(tmp_path), clock=clock)
    try:
        for number in range(120):
            await app.remember.set(f"k{number}", number, ttl=60)
        await clock.advance(61)
        for number in range(120):
            assert await app.remember.get(f"k{number}") is None
        found = await app.diagnose()
    finally:
        await app.close()
    assert named(found) == ["hit_rate.low"]
    told = re.search(r"misses: (\d+) expired", found.findings[0].evidence)
    assert told is not None
    assert int(told[1]) > 100  # a later name displaces some
    assert "TTL" in found.findings[0].remedy


async def test_tiers_that_differ(tmp_path: Path):
    async with redis_server(*BOUNDED) as server, opened(tmp_path, **reach(server)) as app:
        name = app.remember.name("price")
        await app.remember.set("price", 1)
        old = await server.ask("GET", name)
        await app.remember.set("price", 2)
        await server.ask("SET", name, old, "KEEPTTL")
        found = await app.diagnose()
        assert named(found) == ["coherency.mismatch"]
        assert name in found.findings[0].evidence
        assert named(await app.diagnose()) == []  # it was healed


async def test_bytes_that_were_changed(tmp_path: Path):
    async with redis_server(*BOUNDED) as server:
        async with opened(tmp_path / "a", **reach(server)) as writer:
            name = writer.remember.name("price")
            await writer.remember.set("price", "x" * 100)
        size = await server.ask("STRLEN", name)
        await server.ask("SETRANGE", name, size - 40, b"\xff\xff")
        async with opened(tmp_path / "b", **reach(server)) as reader:
            assert await reader.remember.get("price") is None
            found = await reader.diagnose()
    assert named(found) == ["crypto.tampered"]


async def test_sealed_bytes_that_were_changed(tmp_path: Path):
    sealed = {"CACHE_ENCRYPTION_ENABLED": "true", "CACHE_ENCRYPTION_KEY": KEYS[0]}
    async with redis_server(*BOUNDED) as server:
        async with opened(tmp_path / "a", **sealed, **reach(server)) as writer:
            name = writer.remember.name("price")
            await writer.remember.set("price", "x" * 100)
            assert named(await writer.diagnose()) == []
        size = await server.ask("STRLEN", name)
        await server.ask("SETRANGE", name, size - 40, b"\xff\xff")
        async with opened(tmp_path / "b", **sealed, **reach(server)) as reader:
            assert await reader.remember.get("price") is None
            found = await reader.diagnose()
    assert named(found) == ["crypto.tampered"]
    assert "bad_seal" in found.findings[0].evidence
    assert KEYS[0] not in str(found)


async def test_encryption_without_a_key(tmp_path: Path):
    found = await examined(tmp_path, CACHE_ENCRYPTION_ENABLED="true")
    assert named(found) == ["crypto.key_missing"]
    assert "querycache key generate" in found.findings[0].remedy


async def test_entries_of_a_key_that_is_not_here(tmp_path: Path):
    async with redis_server(*BOUNDED) as server:
        for number, key in enumerate(KEYS):
            sealed = {"CACHE_ENCRYPTION_ENABLED": "true", "CACHE_ENCRYPTION_KEY": key}
            async with opened(tmp_path / str(number), **sealed, **reach(server)) as app:
                if not number:
                    await app.remember.set("price", 1)
                else:
                    assert await app.remember.get("price") is None
                    found = await app.diagnose()
                    assert named(found) == ["crypto.unknown_key"]


async def test_access_that_is_refused(tmp_path: Path):
    async with opened(tmp_path) as app:
        for number in range(5):
            found = await app.diagnose()
            assert named(found) == []
            with pytest.raises(AccessDeniedError):
                app.control_access.require("shop", f"bob{number}", "read")
        found = await app.diagnose()
    assert named(found) == ["access.denied"]
    assert "bob4 was refused read of project shop" in found.findings[0].evidence


async def test_a_watch_whose_folder_is_gone(tmp_path: Path):
    root = write(tmp_path / "shop")
    async with opened(tmp_path) as app, app.running([str(root)]):

        async def watched() -> bool:
            return any(state["listening"] for state in app.watching.told())

        await until(watched, "it is watched")
        assert named(await app.diagnose()) == []
        shutil.rmtree(root)

        async def noticed() -> bool:
            return bool(app.watching.troubles())

        await until(noticed, "the watch says that it ended")
        found = await app.diagnose()
    assert named(found) == ["watcher.dead"]
    assert str(root) in found.findings[0].evidence


async def test_a_leak(tmp_path: Path):
    clock = FakeClock()
    app = App(config_in(tmp_path), door="serve", clock=clock)
    held: list[bytes] = []
    try:
        for minute in range(45):
            if minute > 6:
                held.append(os.urandom(4_000_000))
            await app.memory.turn()
            await clock.advance(60)
        found = await app.diagnose()
    finally:
        await app.close()
    assert named(found) == ["memory.leak"]
    assert "MB" in found.findings[0].evidence


async def test_a_home_that_can_not_be_used(tmp_path: Path):
    file = tmp_path / "file"
    file.touch()
    found = await examined(tmp_path, QUERYCACHE_HOME=str(file / "home"))
    assert named(found) == ["store.unusable"]
    assert str(file / "home") in found.findings[0].evidence


async def test_a_home_whose_disk_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    release = threading.Event()

    def hangs(_folder: Path) -> str:
        release.wait(20)
        return ""

    monkeypatch.setattr(doctor, "refusal", hangs)
    monkeypatch.setattr(doctor, "_HOME_S", 0.1)
    try:
        found = await examined(tmp_path)
    finally:
        release.set()
    assert named(found) == ["store.unusable"]
    assert "no answer within 0.1 s" in found.findings[0].evidence
    assert found.took_ms < 2000
    assert not (tmp_path / "home").exists()  # nobody touched it


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
async def test_a_home_of_somebody_else(tmp_path: Path):
    home = tmp_path / "home"
    (home / "registry").mkdir(mode=0o700, parents=True)
    home.chmod(0o700)
    for folder in (home, home / "registry"):
        os.chown(folder, 65534, 65534)
    mortal = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
    ended = await asyncio.to_thread(
        subprocess.run,
        [*mortal, *command("doctor", "--json")],
        cwd=tmp_path,
        env=environment(QUERYCACHE_HOME=str(home)),
        capture_output=True,
        check=False,
    )
    (found,) = msgspec.json.decode(ended.stdout)["findings"]
    assert found["name"] == "store.unusable"
    assert f"{home}: Permission denied" in found["evidence"]


async def test_names_that_are_no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CACHE_DEFAULT_TTLS", "60")
    found = await examined(tmp_path)
    assert named(found) == ["config.unknown"]
    assert "the nearest is CACHE_DEFAULT_TTL" in found.findings[0].evidence
