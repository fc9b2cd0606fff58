"""Adds to the report of faults how each test ended that does not tell of itself."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from tests.live.fault_catalogue import BY_TEST
from tests.live.fault_report import REPORTED, append


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    test, _, case = item.nodeid.partition("[")
    skipped = report.outcome == "skipped"
    if call.when == "call" and test in BY_TEST and item.nodeid not in REPORTED and not skipped:
        parameters: dict[str, object] = getattr(getattr(item, "callspec", None), "params", {})
        count = parameters.get("count")
        append(
            {
                "fault": BY_TEST[test],
                "what": test.rpartition("::test_")[2].replace("_", " "),
                "case": case.rstrip("]"),
                "test": item.nodeid,
                "trials": count if isinstance(count, int) else None,
                "violations": int(report.outcome == "failed"),
                "seconds": round(call.duration, 1),
            }
        )
    return report
