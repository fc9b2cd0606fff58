"""Health, statistics over processes, and projects."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from tests.unit.usecases.app_kit import SAMPLE, app_at, make_project

from querycache.clock import Clock
from querycache.errors import EmbedderError, TierError
from querycache.ports.tiers import Write
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
        assert not (await app.invalidate.tag("kind:other")).told
        assert await app.remember.get("k") is None
        await app.remember.set("k", 2)
        assert await app.remember.get("k") == 2
        assert await app.remember.delete("k")
        assert await app.remember.get("k") is None


async def test_a_shared_tier_that_takes_no_writes_is_told_of(tmp_path: Path) -> None:
    async with app_at(tmp_path / "home") as app:
        write = app.core.l2.write

        async def fail(writes: Sequence[Write]) -> list[bool]:
            raise TierError(f"the disk is full, no {len(writes)} entries fit")

        app.core.l2.write = fail
        project = make_project(tmp_path / "sample")
        await app.index(str(project))
        await app.search("greet", "sample")
        ill = await app.status.health()
        assert ill.status == "degraded"
        assert "the disk is full" in ill.problems[0]
        app.core.l2.write = write
        await app.search("milk", "sample")
        assert (await app.status.health()).status == "healthy"


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


async def test_an_idle_process_tells_nothing_new(tmp_path: Path) -> None:
    async with app_at(tmp_path / "home") as app:
        await app.remember.set("k", 1)
        told: list[object] = []

        def publish(document: Mapping[str, object]) -> bool:
            told.append(document)
            return True

        app.registry.publish = publish
        await app.keep_house()
        await app.keep_house()
        assert told[0] is told[1]
        await app.remember.get("k")
        await app.keep_house()
        assert told[2] is not told[1]


async def test_a_failing_sweep_is_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with app_at(tmp_path / "home") as one, app_at(tmp_path / "home") as two:

        async def fail(limit: int = 1000) -> int:
            raise TierError(f"no sweep of {limit}")

        one.core.l2.sweep = fail
        monkeypatch.setattr(one, "_due", dict.fromkeys(("l1", "l2", "coherency"), -1e9))
        with pytest.raises(TierError):
            await one.keep_house()
        assert len(await two.processes()) == 1


async def test_a_projects_overview_is_of_one_state(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample")
    async with app_at(tmp_path / "home") as app:
        await app.index(str(project))
        index = app.indexes.open("sample")
        loop = asyncio.get_running_loop()
        real = type(index).known

        def known(_: object) -> object:
            monkeypatch.undo()
            (project / "more.py").write_text("def more():\n    return 1\n")
            asyncio.run_coroutine_threadsafe(app.index(str(project)), loop).result()
            return real(index)

        monkeypatch = pytest.MonkeyPatch()
        monkeypatch.setattr(type(index), "known", known)
        try:
            (row,) = await app.list_projects()
        finally:
            monkeypatch.undo()
            index.close()
        assert sum(row.languages.values()) == row.files == len(SAMPLE) + 1


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


async def test_the_background_compares_the_tiers_as_often_as_it_is_told(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for interval, healed in (("1", True), ("3600", False)):
        async with app_at(home, CACHE_COHERENCY_CHECK_INTERVAL=interval) as app:
            await app.remember.set("k", {"a": 1})
            entry = app.l1.entries[app.namer.raw("k")]
            entry.value, entry.packed = "something else", False
            await app.keep_house()
            app.clock = LateClock(app.clock, 2.0)
            await app.keep_house()
            assert (await app.remember.get("k") == {"a": 1}) is healed


class LateClock:
    """A clock that is ahead."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.wall, self.sleep = clock.wall, clock.sleep
        self._clock, self._seconds = clock, seconds

    def monotonic(self) -> float:
        return self._clock.monotonic() + self._seconds
