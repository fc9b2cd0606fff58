"""What is not as it should be, as far as it can be told at once; the doctor looks deeper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

import msgspec

from querycache.assembly.alerting import vitals_of
from querycache.ports.findings import Finding
from querycache.usecases.diagnose.figures import Memory, Thresholds
from querycache.usecases.diagnose.names import finding
from querycache.usecases.diagnose.vitals import quick
from querycache.usecases.show_status import Health

if TYPE_CHECKING:
    from querycache.observe.registry import Published

_NAMES = (
    ("L2 (redis)", "redis.unreachable"),
    ("L2 (", "store.unusable"),
    ("memory is short", "memory.pressure"),
    ("changes under", "watcher.dead"),
    ("the invalidation channel", "invalidation.lag"),
    ("no invalidations", "invalidation.lag"),
    ("Qdrant", "store.unusable"),
)
"""Which finding a problem of health is, by its first words."""


def findings(
    health: Health,
    memory: Memory | None,
    processes: Sequence[Published],
    thresholds: Thresholds,
    is_me: Callable[[Published], bool],
) -> list[Finding]:
    """Of this process what is wrong now; of all processes the alerts and leaks that they told.
    The gravest first.
    """
    found = quick(vitals_of(health, memory), thresholds)
    named = {one.name for one in found}
    for problem in health.problems:
        name = _name(problem)
        if name not in named:
            found.append(finding(name, problem, "querycache doctor"))
    for process in processes:
        own = is_me(process)
        for one in _told(process.document):
            if own and one.name in named:
                continue
            said = one.evidence if own else f"{called(process)}: {one.evidence}"
            found.append(msgspec.structs.replace(one, evidence=said))
    return sorted(found, key=lambda one: ("error", "warning", "info").index(one.severity))


def called(process: Published) -> str:
    """How a process is called: its door and number, and its machine, where that is another."""
    return f"{process.door} {process.pid}" + (f" on {process.host}" if process.host else "")


def _name(problem: str) -> str:
    known = (name for first, name in _NAMES if problem.startswith(first))
    return next(known, "invalidation.lag" if "invalidations" in problem else "check.unfinished")


def _told(document: Mapping[str, object]) -> list[Finding]:
    """The alerts and the leaks of a process; rows of another version are left out."""
    found: list[Finding] = []
    for part in ("alerts", "leaks"):
        rows = document.get(part)
        for row in cast("list[object]", rows) if isinstance(rows, list) else []:
            try:
                found.append(msgspec.convert(row, Finding))
            except msgspec.ValidationError:
                continue
    return found
