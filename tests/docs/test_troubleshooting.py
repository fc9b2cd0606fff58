"""The troubleshooting page treats every finding that the doctor can make, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from querycache.config import FIELDS
from querycache.usecases.diagnose.names import KNOWN

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text()


def test_every_finding_has_its_heading() -> None:
    headings = re.findall(r"(?m)^### `(.+)`$", PAGE)
    assert sorted(headings) == sorted(KNOWN)


def test_every_variable_that_it_names_is_a_setting() -> None:
    named = set(
        re.findall(r"\b((?:CACHE|REDIS|MEMORY_CACHE|SEARCH_CACHE|QUERYCACHE)_[A-Z0-9_]+)", PAGE)
    )
    assert named - FIELDS.keys() == set()
