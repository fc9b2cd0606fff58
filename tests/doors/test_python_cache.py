"""The cache service under the guide's names, at every level, in any loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import querycache
from querycache import (
    CacheService,
    ConfigError,
    NotAvailableError,
    UnsupportedValueError,
    UsageError,
    get_cache_config,
    get_cache_service,
)
from querycache.doors.python import current as current_module

LEVELS = ("BOTH", "L1_MEMORY", "L2_REDIS")


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("QUERYCACHE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    yield
    asyncio.run(shut())


async def shut() -> None:
    service = await get_cache_service()
    await service.shutdown()


def test_the_quick_check_of_the_guide() -> None:
    async def check() -> tuple[object, object, str]:
        service = await get_cache_service()
        assert await service.set("health_check", "test_value")
        value = await service.get("health_check")
        assert await service.delete("health_check")
        return value, await service.get("health_check"), (await service.get_health()).status

    assert asyncio.run(check()) == ("test_value", None, "healthy")


@pytest.mark.parametrize("level", LEVELS)
def test_every_method_works_at_every_level(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_LEVEL", level)

    async def use() -> None:
        service = await get_cache_service()
        assert await service.set("a", {"b": (1, 2)}, ttl=60, tags=["t"])
        assert await service.get("a") == {"b": (1, 2)}
        assert await service.exists("a")
        assert not await service.exists("absent")
        assert await service.set_batch({"x": 1, "y": 2}, 60) == 2
        assert await service.get_batch(["x", "y", "z"]) == {"x": 1, "y": 2}
        assert await service.delete_batch(["x", "z"]) == 1
        assert await service.get_or_compute("c", lambda: 41 + 1, ttl=60) == 42
        coherency = await service.check_cache_coherency()
        assert coherency["coherent"] is True
        assert coherency["l1_l2_consistent"] is True
        assert coherency["stale_entries"] == 0
        assert coherency["mismatched_keys"] == []
        assert await service.cleanup_expired() == 0
        assert await service._flush_dirty_keys() == 0  # pyright: ignore[reportPrivateUsage]
        tiers = service.get_tier_stats()
        assert tiers["cache_level"] == level
        for name in ("l1_stats", "l2_stats"):
            assert 0.0 <= getattr(tiers[name], "hit_rate") <= 1.0  # noqa: B009 -- an object
        assert (await service.redis_manager.get_health_info()).connection_pool_stats
        assert (await service.get_health()).status == "healthy"
        service.l1_cache.clear()
        assert await service.get("a") == (None if level == "L1_MEMORY" else {"b": (1, 2)})
        await service.clear()
        assert await service.get("a") is None

    asyncio.run(use())


def test_caching_off_computes_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_ENABLED", "false")
    calls: list[int] = []

    async def use() -> None:
        service = await get_cache_service()
        for _ in range(3):
            await service.get_or_compute("k", lambda: calls.append(1))
        assert not await service.set("k", 1)
        assert await service.get("k") is None

    asyncio.run(use())
    assert len(calls) == 3


def test_stats_count_reads_and_start_from_zero_after_a_reset() -> None:
    async def use() -> None:
        service = await get_cache_service()
        assert (service.get_stats().hit_rate, service.get_stats().miss_rate) == (0.0, 0.0)
        await service.set("k", 1)
        for _ in range(3):
            await service.get("k")
        await service.get("absent")
        stats = service.get_stats()
        assert (stats.hit_rate, stats.miss_rate) == (0.75, 0.25)
        assert (stats.total_operations, stats.error_count) == (5, 0)
        service.reset_stats()
        assert service.get_stats().total_operations == 0

    asyncio.run(use())


def test_the_same_service_in_every_loop_and_thread() -> None:
    async def put() -> CacheService:
        service = await get_cache_service()
        await service.set("k", "v")
        return service

    async def get() -> tuple[CacheService, object]:
        service = await get_cache_service()
        return service, await service.get("k")

    first = asyncio.run(put())
    for _ in range(3):
        again, value = asyncio.run(get())
        assert again is first
        assert value == "v"
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(get())[1]))
    thread.start()
    thread.join(20)
    assert found == ["v"]
    assert first.get_stats().hit_count == 4


def test_one_load_for_a_thousand_callers() -> None:
    calls: list[int] = []

    async def use() -> None:
        service = await get_cache_service()

        async def load() -> str:
            calls.append(1)
            await asyncio.sleep(0.05)
            return "v"

        values = await asyncio.gather(
            *(service.get_or_compute("k", load, ttl=60) for _ in range(1000))
        )
        assert set(values) == {"v"}

    asyncio.run(use())
    assert len(calls) == 1


def test_a_raw_key_of_a_kind_has_its_life_and_falls_with_its_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FILE_CACHE_TTL", "77")

    async def use() -> None:
        service = await get_cache_service()
        await service.set("file:/a/b.py", "parsed")
        name = service.name("file:/a/b.py")
        assert name == "codebase_rag:file:_:file%3A%2Fa%2Fb.py"
        entry = service.l1_cache.entries[name]
        assert entry.expires - entry.born == pytest.approx(77.0)
        app = current_module.current()
        cut = await app.invalidate.files(["/a/b.py"])
        assert cut.entries >= 1
        assert await service.get("file:/a/b.py") is None

    asyncio.run(use())


def test_wrong_use_is_a_clear_error() -> None:
    async def use() -> None:
        service = await get_cache_service()
        with pytest.raises(UnsupportedValueError, match="object"):
            await service.set("k", object())
        with pytest.raises(UsageError, match="positive"):
            await service.set("k", 1, ttl=0)
        with pytest.raises(UsageError, match="sequence"):
            await service.set("k", 1, tags="t")
        with pytest.raises(NotAvailableError, match="no Redis"):
            async with service.get_redis_client():
                pass

    asyncio.run(use())


def test_the_settings_of_the_guide(monkeypatch: pytest.MonkeyPatch) -> None:
    config = get_cache_config()
    assert (config.redis.host, config.redis.port, bool(config.redis.password)) == (
        "localhost",
        6379,
        False,
    )
    with monkeypatch.context() as patch:
        patch.setenv("MEMORY_CACHE_MAX_SIZE", "many")
        with pytest.raises(ConfigError, match="MEMORY_CACHE_MAX_SIZE"):
            get_cache_config()


def test_a_forked_child_is_a_process_of_its_own() -> None:
    async def put(value: str) -> None:
        await (await get_cache_service()).set("k", value)

    async def get() -> object:
        return await (await get_cache_service()).get("k")

    asyncio.run(put("parent"))
    code = (
        "import asyncio, os\n"
        "from querycache import get_cache_service\n"
        "async def put(v):\n    await (await get_cache_service()).set('k', v)\n"
        "async def get():\n    return await (await get_cache_service()).get('k')\n"
        "asyncio.run(put('parent'))\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    ok = asyncio.run(get()) == 'parent'\n"
        "    asyncio.run(put('child'))\n"
        "    os._exit(0 if ok else 1)\n"
        "status = os.waitpid(pid, 0)[1]\n"
        "assert status == 0, status\n"
        "assert asyncio.run(get()) == 'child'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=25, check=False
    )
    assert done.returncode == 0, done.stderr
    assert asyncio.run(get()) == "child"  # another process wrote it


def test_importing_the_package_is_cheap() -> None:
    code = (
        "import sys, querycache; "
        "heavy = {'numpy', 'tokenizers', 'tree_sitter', 'mcp', 'starlette', 'apsw', 'msgspec'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=25, check=True
    )
    assert out.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    for name in querycache.__all__:
        assert getattr(querycache, name) is not None
    assert set(querycache.__all__) <= set(dir(querycache))
    with pytest.raises(AttributeError):
        getattr(querycache, "absent")  # noqa: B009 -- what is not there
