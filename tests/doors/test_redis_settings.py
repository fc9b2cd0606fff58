"""What the doors give of a Redis: its client, its connections, settings for its servers."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.doors.cli_kit import Cli
from tests.redis_kit import RedisServer

from querycache import NotAvailableError, get_cache_service

STATS = {"created_connections", "available_connections", "in_use_connections", "max_connections"}


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path_factory.mktemp("r"))
    asyncio.run(made.start())
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUERYCACHE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def ask(server: RedisServer, *words: str) -> object:
    return asyncio.run(server.ask(*words))


def test_apply_redis_gives_the_settings_and_tells_what_was(
    server: RedisServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    cli = Cli(capsys)
    monkeypatch.setenv("REDIS_URL", server.url)
    monkeypatch.setenv("REDIS_MAXMEMORY", "4gb")
    monkeypatch.setenv("REDIS_MAXMEMORY_POLICY", "allkeys-lfu")
    (told,) = cli("config", "apply-redis", "--json").json["servers"]
    assert told == {
        "where": f"127.0.0.1:{server.port}",
        "before": {"maxmemory": "0", "maxmemory-policy": "noeviction"},
        "after": {"maxmemory": "4294967296", "maxmemory-policy": "allkeys-lfu"},
    }
    assert ask(server, "CONFIG", "GET", "maxmemory") == [b"maxmemory", b"4294967296"]
    assert ask(server, "CONFIG", "GET", "maxmemory-policy") == [
        b"maxmemory-policy",
        b"allkeys-lfu",
    ]
    monkeypatch.setenv("REDIS_MAXMEMORY_POLICY", "allkeys-lru")
    lines = cli("config", "apply-redis").out.splitlines()
    assert lines == [
        f"127.0.0.1:{server.port}: maxmemory 4294967296 -> 4294967296",
        f"127.0.0.1:{server.port}: maxmemory-policy allkeys-lfu -> allkeys-lru",
    ]


def test_apply_redis_says_why_it_can_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    cli = Cli(capsys)
    done = cli("config", "apply-redis")
    assert (done.status, done.out) == (1, "")
    assert "there is no Redis" in done.err
    assert "REDIS_HOST" in done.err
    monkeypatch.setenv("REDIS_URL", "redis://:s3cret@127.0.0.1:1")
    monkeypatch.setenv("REDIS_MAX_RETRIES", "0")
    done = cli("config", "apply-redis", "--json")
    assert (done.status, done.out) == (1, "")
    assert "Error connecting to Redis at 127.0.0.1:1" in done.err
    assert "s3cret" not in done.err


def test_an_invalidation_that_redis_did_not_hear_of_is_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    cli = Cli(capsys)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    for words in (("--all",), ("--key", "a"), ("--tag", "t")):
        done = cli("invalidate", *words)
        assert (done.status, done.out) == (1, "")
        assert "still serve" in done.err
    done = cli("invalidate", "--all", "--json")
    assert (done.status, '"told":false' in done.out.replace(" ", "")) == (1, True)


def test_all_of_a_shared_redis_is_asked_for_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    cli = Cli(capsys)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    refused = cli("invalidate", "--all")
    assert (refused.status, "still serve" in refused.err) == (1, False)
    assert "every entry of the shared Redis" in refused.err
    monkeypatch.setattr("sys.stdin", Terminal(""))
    for words in (("--all", "--yes"), ("--tag", "t")):
        assert "still serve" in cli("invalidate", *words).err


def test_health_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    cli = Cli(capsys)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    done = cli("health")
    assert done.status == 1
    assert "refused; start Redis there, or correct the address" in done.out


def test_the_guide_s_snippets_find_a_client(server: RedisServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REDIS_URL", server.url)

    async def use() -> None:
        service = await get_cache_service()
        try:
            async with service.get_redis_client() as redis:
                await redis.set("codebase_rag:other:_:a", "v")
                keys = [key async for key in redis.scan_iter(match="codebase_rag:other:*")]
                assert b"codebase_rag:other:_:a" in keys
                for key in keys:
                    assert await redis.memory_usage(key.decode()) > 0
                assert await redis.delete(*keys) == len(keys)
                stats = (await service.redis_manager.get_health_info()).connection_pool_stats
                assert stats.keys() == STATS
                parts = stats["available_connections"] + stats["in_use_connections"]
                assert stats["created_connections"] == parts > 0
                assert stats["max_connections"] == 20
        finally:
            await service.shutdown()

    asyncio.run(use())


def test_without_a_redis_the_client_says_how_to_get_one():
    async def use() -> None:
        service = await get_cache_service()
        try:
            with pytest.raises(NotAvailableError, match="no Redis") as told:
                async with service.get_redis_client():
                    pass
            assert "REDIS_HOST" in told.value.remedy
            info = await service.redis_manager.get_health_info()
            assert info.connection_pool_stats == dict.fromkeys(STATS, 0)
            assert "no Redis" in info.note
        finally:
            await service.shutdown()

    asyncio.run(use())
