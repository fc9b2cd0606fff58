"""The page of faults is what a run found, and the catalogue names tests that there are."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.live.fault_catalogue import BY_TEST, FAULTS

ROOT = Path(__file__).parents[2]

ROW: dict[str, object] = {
    "fault": "F01",
    "what": "kill -9",
    "test": "tests/live/test_redis_outages.py::test_a_server_that_hangs[50]",
    "seed": 7,
    "trials": 50,
    "operations": 1234,
    "violations": 0,
    "first_violations": [],
    "p99_ms": 1.5,
    "worst_ms": 250.0,
    "heal_ms": None,
    "figures": {"noticed_after_s": 0.5},
    "at": "2026-01-02T03:04:05+00:00",
    "python": "3.12.1",
}


def made(tmp_path: Path, *rows: dict[str, object]) -> str:
    found, target = tmp_path / "found.jsonl", tmp_path / "page.md"
    found.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, str(ROOT / "docs" / "fault_report.py"), str(found), str(target)]
    subprocess.run(command, check=True, timeout=25)
    return target.read_text()


def test_the_catalogue_names_tests_that_there_are() -> None:
    assert len(BY_TEST) == sum(len(fault.tests) for fault in FAULTS.values())
    for test in BY_TEST:
        file, _, name = test.partition("::")
        source = (ROOT / file).read_text()
        assert re.search(rf"def {name}\b", source), test


def test_figures_come_from_the_run(tmp_path: Path) -> None:
    page = made(tmp_path, {**ROW, "trials": 3}, ROW)
    line = next(line for line in page.splitlines() if line.startswith("| F01 | kill"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[2:8] == ["50", "1,234", "0", "1.5", "250.0", ""]
    assert cells[8:] == ["noticed after s 0.5", "7", "2026-01-02"]
    assert "1 rows, 50 trials" in page
    assert "Python 3.12.1" in page


def test_what_did_not_hold_is_shown(tmp_path: Path) -> None:
    page = made(tmp_path, {**ROW, "violations": 1, "first_violations": ["I3 get took 1 s"]})
    assert "rows with a violation: 1" in page
    assert "I3 get took 1 s" in page
