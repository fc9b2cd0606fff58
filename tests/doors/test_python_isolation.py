"""Projects apart and sessions, under the guide's names."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from querycache import (
    AccessDeniedError,
    AESEncryption,
    CacheService,
    EncryptionOperationError,
    KeyManager,
    ProjectIsolationManager,
    SessionSecurityManager,
    get_cache_service,
)
from querycache.observe.audit import AuditLine

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[CacheService]:
    monkeypatch.setenv("QUERYCACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    service = await get_cache_service()
    yield service
    await service.shutdown()


async def test_two_projects_never_share_a_key(service: CacheService) -> None:
    projects = ProjectIsolationManager(service)
    one = projects.generate_project_key("project1", "test")
    assert one == "codebase_rag:other:project1:test"
    assert one == projects.generate_project_key("project1", "test")
    hostile = ["project1", "project2", "a", "a:b", "a*", "_", "", "../a", "A", "a\n", "\ud800"]
    names = {projects.generate_project_key(project, "b:test") for project in hostile}
    assert len(names) == len(hostile)
    assert await projects.cache("a:b").set("c", 1)
    assert await projects.cache("a").get("b:c") is None
    assert await projects.cache("a:b").get("c") == 1
    assert await service.get("c") is None


async def test_a_projects_keys_fall_with_it(service: CacheService) -> None:
    projects = ProjectIsolationManager(service)
    for project in ("shop", "bank"):
        await projects.cache(project).set("report", project)
    await service.app.invalidate.project("shop")
    assert await projects.cache("shop").get("report") is None
    assert await projects.cache("bank").get("report") == "bank"


async def test_who_has_no_right_is_refused_and_written_down(
    service: CacheService, tmp_path: Path
) -> None:
    projects = ProjectIsolationManager(service)
    projects.grant("shop", "ada", "read")
    await projects.cache("shop").set("report", "of the shop")
    assert await projects.cache("shop", "ada").get("report") == "of the shop"
    with pytest.raises(PermissionError, match="may not write in project 'shop'"):
        await projects.cache("shop", "ada").set("report", "forged")
    with pytest.raises(AccessDeniedError):
        await projects.cache("shop", "eve").get("report")
    with pytest.raises(AccessDeniedError):
        projects.check("bank", "ada")
    lines = (tmp_path / "data" / "querycache" / "audit.jsonl").read_bytes().splitlines()
    told = [msgspec.json.decode(line, type=AuditLine) for line in lines]
    denied = [(line.who, line.what, line.project) for line in told if line.outcome == "denied"]
    assert denied == [("ada", "write", "shop"), ("eve", "read", "shop"), ("ada", "read", "bank")]
    assert await projects.cache("shop").get("report") == "of the shop"
    assert projects.revoke("shop", "ada")
    with pytest.raises(AccessDeniedError):
        await projects.cache("shop", "ada").get("report")
    projects.clear()


async def test_without_isolation_there_is_one_namespace(
    service: CacheService, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.shutdown()
    monkeypatch.setenv("CACHE_PROJECT_ISOLATION", "false")
    again = await get_cache_service()
    projects = ProjectIsolationManager(again)
    await projects.cache("shop").set("report", 1)
    assert await projects.cache("bank").get("report") == 1


async def test_without_access_logging_nothing_is_written_down(
    service: CacheService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await service.shutdown()
    monkeypatch.setenv("CACHE_ACCESS_LOGGING", "false")
    projects = ProjectIsolationManager(await get_cache_service())
    with pytest.raises(AccessDeniedError):
        projects.check("shop", "eve")
    assert not (tmp_path / "data" / "querycache" / "audit.jsonl").exists()


async def test_what_is_protected_for_a_session_opens_in_it_alone(service: CacheService) -> None:
    sessions = SessionSecurityManager(service, AESEncryption(KeyManager()))
    one, other = sessions.create_session("ada", "shop"), sessions.create_session("eve")
    found = sessions.validate_session(one)
    assert found is not None
    assert (found.user_id, found.project_context) == ("ada", "shop")
    sealed = await sessions.protect(one, "a secret")
    assert b"a secret" not in sealed
    assert await sessions.reveal(one, sealed) == b"a secret"
    with pytest.raises(AccessDeniedError):
        await sessions.reveal(other, sealed)
    with pytest.raises(EncryptionOperationError):
        await sessions.reveal(one, sealed[:-1])
    sessions.active_sessions.clear()
    assert sessions.validate_session(one) is None
    with pytest.raises(AccessDeniedError):
        await sessions.reveal(one, sealed)
