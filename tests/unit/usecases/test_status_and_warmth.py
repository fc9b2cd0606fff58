"""Health, statistics over processes, projects, the query log and warming."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.usecases.app_kit import SAMPLE, app_at, make_project

from querycache.errors import EmbedderError, TierError
from querycache.usecases.show_status import totals

pytestmark = pytest.mark.asyncio


async def test_health_says_what_is_wrong(tmp_path: Path) -> None:
    async with app_at(tmp_path / "home") as app:
        fine = await app.status.health()
        assert (fine.status, fine.redis_connected, fine.l2_backend) == ("healthy", False, "sqlite")
        assert fine.problems == ()

        async def fail(*_: object) -> object:
            raise TierError("the disk is full")

        app.core.l2.bump = fail  # pyright: ignore[reportAttributeAccessIssue]
        assert not await app.core.invalidate(["t"])
        ill = await app.status.health()
        assert ill.status == "degraded"
        assert "1 invalidations" in ill.problems[0]


async def test_a_shared_tier_that_can_not_be_opened_is_done_without(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "l2").write_text("a file where the folder should be")
    async with app_at(home) as app:
        await app.remember.set("k", {"a": 1})
        assert await app.remember.get("k") == {"a": 1}
        health = await app.status.health()
        assert (health.status, health.l2_connected) == ("degraded", False)
        assert str(home / "l2") in health.problems[0]


async def test_without_a_shared_tier_health_is_fine(tmp_path: Path) -> None:
    async with app_at(tmp_path / "home", CACHE_LEVEL="L1_MEMORY") as app:
        await app.remember.set("k", 1)
        assert (await app.status.health()).status == "healthy"
        l1, l2 = app.status.tiers([app.status.snapshot()])
        assert (l1.enabled, l2.enabled) == (True, False)
        assert l2.total_operations == 0


async def test_statistics_add_up_over_processes(tmp_path: Path) -> None:
    async with app_at(tmp_path / "home") as one, app_at(tmp_path / "home") as two:
        await one.remember.set("k", 1)
        await one.remember.get("k")
        await two.remember.get("k")
        await two.remember.get("file:absent")
        snapshots = [one.status.snapshot(), two.status.snapshot()]
        sums = totals(snapshots)
        assert (sums["hit_count"], sums["miss_count"], sums["set_count"]) == (2, 1, 1)
        assert sums["hit_rate"] == pytest.approx(2 / 3)
        kinds = sums["by_kind"]
        assert isinstance(kinds, dict)
        assert kinds["other"]["l2_hits"] == 1
        assert kinds["file"]["miss_count"] == 1
        l1, l2 = one.status.tiers(snapshots)
        assert (l1.hit_count, l2.hit_count, l2.miss_count) == (1, 1, 1)
        assert totals([])["hit_rate"] == 0.0


async def test_living_processes_are_seen_by_others(tmp_path: Path) -> None:
    async with app_at(tmp_path / "home") as one, app_at(tmp_path / "home") as two:
        await one.remember.set("k", 1)
        await one.keep_house()
        ((told, snapshot),) = await two.processes()
        assert told.door == "test"
        assert snapshot.kinds["other"].sets == 1
        assert two.explain_key is not None


async def test_projects_and_their_stale_files(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as app:
        assert await app.list_projects() == []
        await app.index(str(project))
        (row,) = await app.list_projects()
        assert (row.name, row.files, row.stale_files) == ("sample", len(SAMPLE), 0)
        assert row.languages["python"] == 2
        assert row.indexed_at > 1e9
        (project / "notes.txt").write_text("buy bread\n")
        (project / "README.md").unlink()
        (row,) = await app.list_projects()
        assert row.stale_files == 2


async def test_warming_asks_what_was_asked_most(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as app:
        await app.index(str(project))
        for query in ("greet", "greet", "server", "milk"):
            await app.search(query, "sample")
        assert app.query_log.popular("sample", 1) == ["greet"]
    async with app_at(tmp_path / "home") as cold:
        told: list[tuple[int, int]] = []

        def tell(done: int, total: int) -> None:
            told.append((done, total))

        warmed = await cold.warm("sample", progress=tell)
        assert (warmed.loaded, warmed.skipped, warmed.failed) == (3, 0, 0)
        assert warmed.bytes > 0
        assert told[-1] == (3, 3)
        assert (await cold.search("server", "sample")).cache.tier == "l1"
        again = await cold.warm("sample", ["server", " ", "new question"])
        assert (again.loaded, again.skipped, again.failed) == (1, 1, 1)
        none = await cold.warm("sample", ["a", "b"], budget_s=1e-9)
        assert (none.loaded, none.skipped) == (0, 2)


async def test_the_query_log_is_bounded_and_survives_garbage(tmp_path: Path) -> None:
    async with app_at(tmp_path / "home") as app:
        log = app.query_log
        log.record("p", "kept")
        (file,) = (tmp_path / "home" / "queries").iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
        file.write_bytes(b'\xff garbage\n{"t": 1}\n' * 60_000)
        log.record("p", "kept")
        assert file.stat().st_size < 700_000
        assert log.popular("p") == ["kept"]
        log.record("p", "x" * 5000)
        assert log.popular("p") == ["kept"]
        log.forget("p")
        assert log.popular("p") == []


async def test_what_is_kept_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    home = tmp_path / "deep" / "home"
    async with app_at(home) as app:
        await app.index(str(project))
        await app.search("greet", "sample")
        await app.keep_house()
        assert home.stat().st_mode & 0o777 == 0o700
        for path in home.rglob("*"):
            assert path.stat().st_mode & 0o077 == 0, path


async def test_a_hit_in_a_new_process_loads_no_model(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as one, app_at(tmp_path / "home") as two:
        await one.index(str(project))
        await one.search("greet", "sample")
        assert (await two.search("greet", "sample")).cache.tier == "l2"
        with pytest.raises(EmbedderError):
            _ = two.embedder.identity
