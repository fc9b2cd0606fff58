"""A process in a cgroup that is smaller than what it caches lives on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.live.cgroups import Cgroup, limited

PROCESS = Path(__file__).with_name("memory_process.py")
LIMIT_MB = 128


def fill(group: Cgroup, home: Path, megabytes: int, **variables: str) -> tuple[int, str]:
    """The exit status of a process that sets so many megabytes, and what it said."""
    done = subprocess.run(
        group.within([sys.executable, str(PROCESS), str(megabytes)]),
        env={
            **os.environ,
            "QUERYCACHE_HOME": str(home),
            "MEMORY_CACHE_MAX_SIZE": "1000000",
            **variables,
        },
        capture_output=True,
        check=False,
        text=True,
    )
    return done.returncode, done.stdout


def lived(group: Cgroup, home: Path, megabytes: int, **variables: str) -> dict[str, Any]:
    status, said = fill(group, home, megabytes, **variables)
    assert (status, group.killed()) == (0, 0)
    told: dict[str, Any] = json.loads(said)
    assert told["memory"]["source"] == "cgroup"
    assert told["memory"]["limit_bytes"] == LIMIT_MB << 20
    assert told["memory"]["used_bytes"] <= 0.9 * (LIMIT_MB << 20)
    assert told["memory"]["l1_share"] < 1.0
    assert told["failed"] == 0
    assert told["alive"]
    assert told["size"] > 1000
    return told


def test_it_keeps_to_the_cgroup_although_l1_may_have_twice_as_much(tmp_path: Path):
    with limited(LIMIT_MB) as group:
        told = lived(group, tmp_path, 300, CACHE_LEVEL="L1_MEMORY")
        assert told["found"]


def test_without_the_relief_it_is_killed(tmp_path: Path):
    with limited(LIMIT_MB) as group:
        variables = {"CACHE_LEVEL": "L1_MEMORY", "CACHE_MEMORY_PRESSURE_ENABLED": "false"}
        status, _ = fill(group, tmp_path, 300, **variables)
        assert status == -9
        assert group.killed() == 1


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("level", ["L1_MEMORY", "BOTH"])
def test_a_gigabyte_of_inserts(tmp_path: Path, level: str):
    with limited(LIMIT_MB) as group:
        lived(group, tmp_path, 1000, CACHE_LEVEL=level)
