"""Writes docs/reliability.md from what tests of faults found. `make soak` runs it.

python docs/fault_report.py FOUND.jsonl [PAGE]

Of each test the last line counts. No figure is typed by hand.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.live.fault_catalogue import FAULTS  # noqa: E402 -- from the folder above

PAGE = ROOT / "docs" / "reliability.md"
MADE = "<!-- made by docs/fault_report.py from a run of the tests; do not edit -->"
HEAD = (
    "Fault",
    "How",
    "Trials",
    "Operations",
    "Violations",
    "p99, ms",
    "Worst, ms",
    "Healed in, ms",
    "Also measured",
    "Seed",
    "Date",
)

Row = Mapping[str, Any]


def page(rows: Sequence[Row]) -> Iterator[str]:
    """The paragraphs of the page."""
    yield "# What the shared tier lived through"
    yield MADE
    yield (
        "Each row is a test that does something to a real Redis, to the way there, or to the"
        " processes, while caches are under load, and judges every answer: none belongs to another"
        " key or was never written; none is older than what this process itself changed; none is"
        " older than the bound where another process changed it; nothing is raised; no operation"
        " takes too long; all works again in time; no task, descriptor or connection is left"
        " over; no password is logged. A violation is one"
        " of these that did not hold. *Worst* is the longest operation of a caller, *healed in*"
        " the longest time from the end of the fault until entries went through Redis again."
        " Empty: not measured by that test. Faults are numbered as in"
        " `tests/live/fault_catalogue.py`."
    )
    yield (
        "What is too long is CACHE_L2_DEADLINE_MS and half a second for a busy machine, which is"
        " more than the goal of 300 ms; an operation may ask Redis several times, so where replies"
        " are late or packets are lost it is a few deadlines. Where a fault leaves a lease behind,"
        " who computes next waits until it runs out, two seconds at most: such waits are told"
        " apart, as *longest wait for a lease*."
    )
    yield f"Ran with {_versions(rows)}."
    yield "\n".join((_line(HEAD), _line(["---"] * len(HEAD)), *map(_line, map(_cells, rows))))
    violated = sum(row["violations"] > 0 for row in rows)
    trials = sum(row.get("trials") or 0 for row in rows)
    operations = sum(row.get("operations") or 0 for row in rows)
    yield (
        f"{len(rows)} rows, {trials:,} trials, {operations:,} operations;"
        f" rows with a violation: {violated}."
    )
    for row in rows:
        for violation in row.get("first_violations", ()):
            yield f"- {row['fault']}, {row['what']}: `{violation.replace('`', ' ')}`"
    yield "## Where each fault is tried"
    yield (
        "All of it runs at a reduced size with `make test`, and at full size with `make soak`."
        " *Full run*: whether the rows above have it."
    )
    ran = {row["test"].partition("[")[0] for row in rows}
    head = ("Fault", "", "Test", "Full run")
    tests = (
        (number, fault.title, f"`{test.removeprefix('tests/')}`", "yes" if test in ran else "no")
        for number, fault in FAULTS.items()
        for test in fault.tests
    )
    missing = [f"{number} ({fault.title})" for number, fault in FAULTS.items() if not fault.tests]
    yield "\n".join((_line(head), _line(["---"] * len(head)), *map(_line, tests)))
    if missing:
        yield f"Not tried: {', '.join(missing)}."


def _versions(rows: Sequence[Row]) -> str:
    words = {"commit": "commit", "python": "Python", "server": "", "cores": "cores:"}
    return "; ".join(
        f"{word} {', '.join(sorted({str(row[name]) for row in rows if row.get(name)}))}".strip()
        for name, word in words.items()
    )


def _cells(row: Row) -> Sequence[str]:
    figures = ", ".join(
        f"{name.replace('_', ' ')} {value:g}" for name, value in row.get("figures", {}).items()
    )
    case = f" ({row['case']})" if row.get("case") else ""
    return (
        row["fault"],
        row["what"] + case,
        _number(row.get("trials")),
        _number(row.get("operations")),
        _number(row["violations"]),
        _number(row.get("p99_ms")),
        _number(row.get("worst_ms")),
        _number(row.get("heal_ms")),
        figures,
        str(row.get("seed", "")),
        row["at"][:10],
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def read(found: Path) -> list[Row]:
    """The last row of each test, in the order of the faults."""
    rows: dict[str, Row] = {}
    for line in found.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows[row["test"]] = row
    return sorted(rows.values(), key=lambda row: (row["fault"], row["test"]))


def main() -> None:
    found, *where = map(Path, sys.argv[1:])
    target = where[0] if where else PAGE
    target.write_text("\n\n".join(page(read(found))) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
