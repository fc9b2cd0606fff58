"""Which journal a process keeps: one for each L2, and never a reason to fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.usecases.app_kit import app_at

from querycache.ports.journal import Recorded
from querycache.ports.tiers import Write

pytestmark = pytest.mark.asyncio

BACK = {"CACHE_WRITE_STRATEGY": "WRITE_BACK", "CACHE_WRITE_BACK_JOURNAL": "true"}
ONE = "redis://cache.example:6379/0"
RECORD = Recorded(1, Write("k", b"v", 5.0, guard=7))


@pytest.mark.parametrize(
    "other",
    [
        {"REDIS_URL": "redis://cache.example:6379/1"},
        {"REDIS_URL": "redis://other.example:6379/0"},
        {"REDIS_URL": ONE, "CACHE_KEY_PREFIX": "another"},
        {"CACHE_L2_BACKEND": "sqlite"},
    ],
)
async def test_what_waited_for_one_store_is_not_replayed_to_another(
    tmp_path: Path, other: dict[str, str]
) -> None:
    async with app_at(tmp_path / "home", **BACK, REDIS_URL=ONE) as app:
        assert app.journal is not None
        await app.journal.append([RECORD])
    async with app_at(tmp_path / "home", **BACK, **other) as app:
        assert app.journal is not None
        assert await app.journal.adopt() is None
    async with app_at(tmp_path / "home", **BACK, REDIS_URL=ONE) as app:
        assert app.journal is not None
        orphans = await app.journal.adopt()
        assert orphans is not None
        assert list(orphans.records) == [RECORD]
        orphans.done()


async def test_a_home_that_can_not_be_used_costs_the_journal_and_nothing_else(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    home.write_text("in the way")
    async with app_at(home, **BACK) as app:
        assert await app.remember.set("k", "v") is True
        assert await app.remember.get("k") == "v"
