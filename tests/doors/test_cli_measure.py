"""bench, replay and demo."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
import zstandard
from tests.doors.cli_kit import FILES, Cli, write

from querycache.assembly.replaying import POLICY_NAMES
from querycache.config import load_config
from querycache.doors.cli.bench import measure
from querycache.doors.cli.demo import QUESTIONS
from querycache.doors.cli.replaying import policies_asked
from querycache.errors import UsageError


@pytest.fixture
def cli(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Cli:
    monkeypatch.setenv("QUERYCACHE_HOME", str(tmp_path / "home"))
    return Cli(capsys)


def test_bench_measures_both_tiers_and_leaves_nothing(cli: Cli, tmp_path: Path):
    found = cli("bench", "--json").json
    medians = {figure["name"]: figure["median_ms"] for figure in found["figures"]}
    assert medians.keys() == {"L1 set", "L1 hit", "L2 set", "L2 hit", "L2 batch"}
    assert all(figure["best_ms"] <= figure["median_ms"] for figure in found["figures"])
    assert 0.0 < medians["L1 hit"] < medians["L2 hit"]
    assert not (tmp_path / "home").exists()


def test_bench_leaves_out_a_tier_that_is_not_used(tmp_path: Path):
    environ = {"HOME": str(tmp_path), "CACHE_L2_BACKEND": "none"}
    measured = measure(load_config(environ, tmp_path).config)
    assert [figure.name for figure in measured.figures] == ["L1 set", "L1 hit"]


def test_policies_are_named_as_in_the_settings():
    assert policies_asked(["lru", "LRU"]) == ["LRU"]
    assert policies_asked([]) == [*POLICY_NAMES, "OPTIMUM"]
    with pytest.raises(UsageError, match="PSYCHIC"):
        policies_asked(["psychic"])


def test_replay_compares_the_policies_with_the_optimum(cli: Cli, tmp_path: Path):
    draw = Random(7)  # noqa: S311 -- the same trace in every run
    keys = [int(draw.paretovariate(0.9)) % 500 for _ in range(4000)]
    trace = tmp_path / "trace.txt"
    trace.write_text("".join(f"{key}\n" for key in keys))
    found = cli("replay", str(trace), "--capacity", "40", "--json").json
    ratios = {row["policy"]: row["hit_ratio"] for row in found["rows"]}
    assert ratios.keys() == {*POLICY_NAMES, "OPTIMUM"}
    assert max(ratios, key=lambda name: ratios[name]) == "OPTIMUM"
    assert (found["accesses"], found["distinct"]) == (4000, len(set(keys)))
    packed = tmp_path / "trace.npy.zst"
    plain = tmp_path / "trace.npy"
    np.save(plain, np.array(keys))
    packed.write_bytes(zstandard.compress(plain.read_bytes()))
    again = cli("replay", str(packed), "--capacity", "40", "--policy", "lru", "--json").json
    assert [row["hit_ratio"] for row in again["rows"]] == [ratios["LRU"]]
    shown = cli("replay", str(trace), "--policy", "LRU")
    assert "4,000 accesses" in shown.out


def test_replay_refuses_what_it_can_not_read(cli: Cli, tmp_path: Path):
    broken = tmp_path / "broken.npy.zst"
    broken.write_bytes(b"no zstandard")
    for words in (
        (str(tmp_path / "nowhere"),),
        (str(tmp_path),),
        (str(broken),),
        (str(broken), "--policy", "PSYCHIC"),
    ):
        done = cli("replay", *words, "--json")
        assert (done.status, done.out) == (2, "")
        assert done.err.startswith("error: ")


def test_demo_shows_three_runs_with_one_ranking(cli: Cli, tmp_path: Path):
    root = write(tmp_path / "shop")
    found = cli("demo", str(root), "--json").json
    assert found["indexed"]["embedded"] == found["indexed"]["chunks"] > 0
    assert found["indexed_again"]["embedded"] == 0
    assert [row["run"] for row in found["asked"]] == ["first", "again", "new process"] * 5
    assert [row["tier"] for row in found["asked"]] == ["none", "l1", "l2"] * 5
    assert [row["embedded"] for row in found["asked"]] == [1, 0, 0] * 5
    assert [row["embeddings_saved"] for row in found["asked"]] == [0, 1, 1] * 5
    assert [row["query"] for row in found["asked"][::3]] == list(QUESTIONS)
    for place in range(0, 15, 3):
        first, again, elsewhere = (row["results"] for row in found["asked"][place : place + 3])
        assert first == again == elsewhere
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert files == set(FILES)
    assert not (tmp_path / "home").exists()


def test_demo_for_people(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CACHE_LEVEL", "L1_MEMORY")  # the demonstration needs both tiers
    done = cli("demo", str(write(tmp_path / "shop")))
    assert done.status == 0
    assert "15 answers, 10 of them from the cache" in done.out
    assert "5 embedding calls made, 10 saved" in done.out
    assert done.out.count("in a new process") == 5


def test_demo_wants_code(cli: Cli, tmp_path: Path):
    assert "is not a folder" in cli("demo", str(tmp_path / "nowhere")).err
    (tmp_path / "empty").mkdir()
    done = cli("demo", str(tmp_path / "empty"))
    assert done.status == 2
    assert "can be indexed" in done.err
