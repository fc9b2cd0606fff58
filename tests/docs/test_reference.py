"""The reference is what the code says, and every fenced Python example runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_reference_is_up_to_date(tmp_path: Path) -> None:
    """`make docs` writes it."""
    command = [sys.executable, str(ROOT / "docs" / "generate.py"), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=25)
    made = {page.name: page.read_text() for page in tmp_path.iterdir()}
    kept = {page.name: page.read_text() for page in (ROOT / "docs" / "reference").iterdir()}
    assert made == kept


def test_the_readmes_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert examples
    monkeypatch.setenv("QUERYCACHE_HOME", str(tmp_path / "home"))
    project = tmp_path / "project"
    project.mkdir()
    (project / "settings.py").write_text("def read_settings():\n    return {}\n")
    for example in examples:
        done = subprocess.run(
            [sys.executable, "-c", example],
            cwd=project,
            capture_output=True,
            text=True,
            timeout=25,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "an expensive report" in done.stdout
        assert "settings.py:1 read_settings" in done.stdout


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")))
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
