"""The files of the project, for the tests of its shape."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "querycache"
TESTS = ROOT / "tests"
MODULES = sorted(SOURCES.rglob("*.py"))


def name_of(path: Path) -> str:
    """`cache/two_tier.py`: a module as it is called in messages."""
    return path.relative_to(SOURCES).as_posix()


def tracked() -> list[Path]:
    """All files that are, or are about to be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]
