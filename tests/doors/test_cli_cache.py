"""health, stats, keys, explain and invalidate."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from tests.doors.cli_kit import Cli, Ended, spawn, write

from querycache.assembly import App
from querycache.cache.examining import Examined
from querycache.config import load_config
from querycache.doors.cli.explanation import as_text
from querycache.ports.tiers import Write
from querycache.usecases.explain_key import Explained
from querycache.values import Kind

HEALTH = {
    *("status", "redis_connected", "redis_ping_time", "memory_usage", "connection_pool_stats"),
    *("last_error", "check_timestamp", "l2_backend"),
}
STATS = {
    *("hit_count", "miss_count", "set_count", "delete_count", "error_count"),
    *("total_operations", "last_reset", "hit_rate", "miss_rate"),
}


@pytest.fixture
def cli(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Cli:
    monkeypatch.setenv("QUERYCACHE_HOME", str(tmp_path / "home"))
    return Cli(capsys)


@pytest.fixture
def searched(tmp_path: Path, cli: Cli) -> Path:
    """An indexed project of which something was asked."""
    root = write(tmp_path / "shop")
    cli("index", str(root))
    cli("search", "read settings")
    return root


def test_health_says_it_by_its_exit_status(cli: Cli, tmp_path: Path):
    assert cli("health", "--json").json.keys() >= HEALTH
    well = cli("health")
    assert (well.status, well.out.split("\n")[0]) == (0, "healthy")
    folder = tmp_path / "home" / "l2"
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    folder.write_text("in the way")
    ill = cli("health", "--json")
    assert ill.status == 1
    assert '"status":"degraded"' in ill.out
    shown = cli("health")
    assert shown.status == 1
    assert "does not answer" in shown.out


def test_a_cache_without_any_tier_that_works_is_unhealthy(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "l2").write_text("in the way")
    monkeypatch.setenv("CACHE_LEVEL", "L2_REDIS")
    assert cli("health").status == 2
    root = write(tmp_path / "shop")
    assert cli("index", str(root)).status == 0
    found = cli("search", "save a record", "--json").json
    assert found["results"][0]["path"] == "app/store.py"
    assert found["cache"]["tier"] == "none"


def test_stats_speak_of_the_living_processes(cli: Cli, tmp_path: Path):
    alone = cli("stats", "--json").json
    assert alone.keys() >= STATS | {"tiers", "kinds", "processes"}
    assert alone["processes"] == []
    assert "no querycache process is running" in cli("stats").out
    app = App(load_config().config, door="serve")

    async def work() -> None:
        await app.remember.set("report:42", "value")
        for key in ("report:42", "report:42", "absent"):
            await app.remember.get(key)
        await app.keep_house()

    asyncio.run(work())
    found = spawn(["stats", "--json"]).json
    (process,) = found["processes"]
    assert (process["pid"], process["door"]) == (os.getpid(), "serve")
    assert (found["hit_count"], found["miss_count"], found["set_count"]) == (2, 1, 1)
    assert found["hit_rate"] + found["miss_rate"] == pytest.approx(1.0)
    assert found["tiers"]["l1"]["hits"] == 2
    assert found["kinds"]["other"]["l1_hits"] == 2
    shown = spawn(["stats"]).out
    assert f"1 living process: serve {os.getpid()}" in shown
    assert "66.7%" in shown
    asyncio.run(app.close())
    assert cli("stats", "--json").json["processes"] == []
    assert not list((tmp_path / "home" / "registry").iterdir())


def test_living_processes_compare_their_tiers_when_asked(cli: Cli):
    alone = cli("coherency", "--json").json
    assert (alone["coherent"], alone["processes"]) == (True, [])
    assert "no querycache process" in cli("coherency").out
    app = App(load_config().config, door="serve")

    async def work() -> list[Ended]:
        for key in ("edited", "kept"):
            await app.remember.set(key, [key])
        await app.keep_house()
        name = app.remember.name("edited")
        await app.core.l2.write([Write(name, b"by hand", 4e9, tell=False)])
        app.keep_house_here()
        words = (["coherency", "--json"], ["coherency"], ["stats"])
        return [await asyncio.to_thread(spawn, words) for words in words]

    first, second, stats = asyncio.run(work())
    assert first.status == 1
    found = json.loads(first.out)
    assert (found["coherent"], found["stale_entries"]) == (False, 1)
    assert found["mismatched_keys"] == ["codebase_rag:other:_:edited"]
    (process,) = found["processes"]
    assert (process["pid"], process["found"]["checked_keys"]) == (os.getpid(), 2)
    assert (second.status, f"serve {os.getpid()}" in second.out) == (0, True)
    assert "comparisons of the tiers: 2, of 3 entries, 1 of which differed" in stats.out
    silent = spawn(["coherency", "--wait-s", "0"])
    assert silent.status == 1
    assert "did not answer" in silent.out
    asyncio.run(app.close())


def test_stats_either_watch_or_answer_in_json(cli: Cli):
    assert cli("stats", "--watch", "--json").status == 2


@pytest.mark.usefixtures("searched")
def test_keys_add_up(cli: Cli):
    found = cli("keys", "--json").json["patterns"]
    assert all(row.keys() == {"pattern", "count", "bytes"} for row in found)
    counts = {row["pattern"]: row["count"] for row in found}
    assert counts["codebase_rag:search:shop:*"] == 1
    assert counts["codebase_rag:file:_:*"] == 4
    assert list(counts.values()) == sorted(counts.values(), reverse=True)
    one = cli("keys", "--kind", "search", "--project", "shop", "--json").json["patterns"]
    assert [row["pattern"] for row in one] == ["codebase_rag:search:shop:*"]
    shown = cli("keys", "--sizes").out
    assert "Cache key patterns:" in shown
    assert "Total cache memory:" in shown


def test_keys_of_an_empty_cache(cli: Cli):
    assert cli("keys", "--json").json["patterns"] == []
    assert "no entries" in cli("keys", "--sizes").out


def test_an_empty_key_is_refused(cli: Cli):
    assert (cli("explain", "").status, cli("explain", "").out) == (2, "")


def test_explain_tells_where_an_entry_is_and_what_happened_to_it(cli: Cli):
    app = App(load_config().config, door="serve")

    async def work() -> None:
        await app.remember.set("report:42", "value", tags=["project:acme"])
        await app.keep_house()

    asyncio.run(work())
    found = spawn(["explain", "report:42", "--json"]).json
    assert found["key"] == "codebase_rag:other:_:report%3A42"
    assert (found["l1"], found["l2"]["verdict"]) == (None, "fresh")
    assert {tag["tag"] for tag in found["l2"]["tags"]} == {"kind:other", "project:acme"}
    assert [event["event"] for event in found["events"]] == ["Stored"]
    assert found["events"][0]["process"] == f"serve {os.getpid()}"
    shown = spawn(["explain", found["key"]]).out
    assert "fresh" in shown
    assert "Stored" in shown
    cli("invalidate", "--tag", "project:acme")
    assert cli("explain", "report:42", "--json").json["l2"]["verdict"] == "invalidated"
    asyncio.run(app.close())
    assert "no living process tells of it" in cli("explain", "nothing").out


def test_an_explanation_for_people_holds_nothing_raw():
    found = Explained("\x1b[31mkey", Kind.OTHER, Examined(None, None, "\x1btrouble"), ())
    assert "\x1b" not in as_text(found, 0.0).plain


@pytest.mark.parametrize("words", [(), ("--all", "--key", "x"), ("--tag", "a", "--project", "b")])
def test_what_to_invalidate_is_said_once(cli: Cli, words: tuple[str, ...]):
    done = cli("invalidate", *words)
    assert (done.status, done.out) == (2, "")
    assert "exactly one" in done.err


def test_invalidating(cli: Cli, searched: Path):
    file = cli("invalidate", "--file", str(searched / "app/store.py"), "--json").json
    assert file.keys() >= {"files", "entries", "generation"}
    assert file["files"] == 1
    cli("search", "read settings")
    project = cli("invalidate", "--project", "shop", "--json").json
    assert project["entries"] == 1
    assert cli("search", "read settings", "--json").json["cache"]["tier"] == "none"
    cli("search", "read settings")
    pattern = cli("invalidate", "--pattern", "search:*", "--json").json
    assert (pattern["entries"], pattern["told"]) == (1, True)
    assert cli("invalidate", "--pattern", "nothing:*", "--json").json["entries"] == 0
    assert "names no entry" in cli("invalidate", "--pattern", "codebase_rag:x:*").err
    everything = cli("invalidate", "--all")
    assert "unreachable now" in everything.out
    assert cli("keys", "--json").json["patterns"] == []


def test_a_single_key_is_invalidated(cli: Cli):
    async def work() -> None:
        app = App(load_config().config)
        await app.remember.set("report:42", "value")
        await app.close()

    asyncio.run(work())
    assert cli("invalidate", "--key", "report:42", "--json").json["entries"] == 1
    assert cli("invalidate", "--key", "report:42", "--json").json["entries"] == 0
