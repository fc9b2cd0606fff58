"""What a trial of a fault found: what went wrong, how long things took; told, kept and judged.

With FAULT_REPORT=path in the environment each is appended there as a line of JSON, from which
`docs/fault_report.py` makes a page.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from tests.redis_kit import PROGRAM

REPORTED: set[str] = set()
"""The tests of this run that have told of themselves."""

_MOST_SHOWN = 5


def current_test() -> str:
    """The id of the test that runs."""
    return os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]


def append(row: Mapping[str, object]) -> None:
    """Adds a line to the report, if one is wanted."""
    path = os.environ.get("FAULT_REPORT", "")
    REPORTED.add(current_test())
    if path:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with Path(path).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({**row, "at": now, **_versions()}) + "\n")


@cache
def _versions() -> dict[str, str]:
    said = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True)
    server = next(word for word in said.stdout.split() if word.startswith("v="))
    return {
        "commit": _git("rev-parse", "--short", "HEAD") + ("+" if _git(*_CHANGED) else ""),
        "python": platform.python_version(),
        "server": f"{Path(PROGRAM).name} {server.removeprefix('v=')}",
        "cores": str(os.cpu_count()),
    }


_CHANGED = ("status", "--porcelain", "--untracked-files=no", "src")


def _git(*words: str) -> str:
    """What git says of this checkout; "" where it is none."""
    command = ["git", "--no-optional-locks", "-C", str(Path(__file__).parents[2]), *words]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    return said.stdout.strip()


class Findings:
    """What the trials of one fault found.

    Attributes:
        violations: What broke an invariant.
        worst_s: The longest operation.
        heal_s: The longest time from the end of the fault until all worked again; None where
            nothing healed.
        figures: Others that the trial measured, by name.
    """

    def __init__(self, fault: str, seed: int, what: str = "") -> None:
        self.fault = fault
        self.seed = seed
        self.what = what
        self.trials = 0
        self.durations: list[float] = []  # seconds
        self.violations: list[str] = []
        self.worst_s = 0.0
        self.worst_was = ""
        self.heal_s: float | None = None
        self.figures: dict[str, float] = {}

    def wrong(self, what: str) -> None:
        self.violations.append(what)

    def took(self, seconds: float, what: str = "") -> None:
        """An operation is done."""
        self.durations.append(seconds)
        if seconds > self.worst_s:
            self.worst_s, self.worst_was = seconds, what

    @property
    def operations(self) -> int:
        return len(self.durations)

    @property
    def p99_s(self) -> float:
        ordered = sorted(self.durations)
        return ordered[len(ordered) * 99 // 100] if ordered else 0.0

    def healed(self, seconds: float) -> None:
        self.heal_s = max(seconds, self.heal_s or 0.0)

    def most(self, name: str, value: float) -> None:
        """A figure of which the largest counts."""
        self.figures[name] = max(value, self.figures.get(name, value))

    def tell(self) -> None:
        row = {
            "fault": self.fault,
            "what": self.what,
            "test": current_test(),
            "seed": self.seed,
            "trials": self.trials,
            "operations": self.operations,
            "violations": len(self.violations),
            "first_violations": self.violations[:_MOST_SHOWN],
            "p99_ms": round(self.p99_s * 1000, 1),
            "worst_ms": round(self.worst_s * 1000, 1),
            "heal_ms": None if self.heal_s is None else round(self.heal_s * 1000, 1),
            "figures": {name: round(value, 3) for name, value in self.figures.items()},
        }
        sys.stderr.write(f"\n{json.dumps(row)} ({self.worst_was})\n")
        append(row)


@contextmanager
def findings(fault: str, seed: int, what: str = "") -> Generator[Findings]:
    """Tells of the trials in its block, whatever becomes of them; fails if anything was wrong."""
    found = Findings(fault, seed, what)
    try:
        yield found
    except BaseException as error:
        found.wrong(f"{type(error).__name__}: {error}"[:300])
        raise
    finally:
        found.tell()
    assert not found.violations, found.violations[:_MOST_SHOWN]
