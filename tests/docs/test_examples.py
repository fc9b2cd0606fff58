"""What the documentation shows, works: Python examples and shell blocks run, and every command
line parses.

Shell blocks of a page run one after another in one folder with a small project in it. A block with
a title runs elsewhere (`sh title="with docker"`): of it only the `querycache` lines are parsed.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from querycache.doors.cli.program import app as command_line

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
WRITTEN = [
    page
    for page in (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
    if "reference" not in page.parts
]
FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)

RUNNER = """
import ast, sys
for number, source in enumerate(open(sys.argv[1]).read().split("\\0"), start=1):
    exec(compile(source, f"example {number}", "exec"), {"__name__": "__main__"})
"""


def fenced(page: Path, language: str) -> list[tuple[str, str]]:
    """The info string and the body of a page's blocks of a language."""
    found = [(info.strip(), body) for _, info, body in FENCE.findall(page.read_text())]
    return [(info, body) for info, body in found if info.split(" ")[0] == language]


def runnable(page: Path, language: str) -> list[str]:
    """The bodies of those that run here."""
    return [body for info, body in fenced(page, language) if "title=" not in info]


def project(folder: Path) -> dict[str, str]:
    """A small project in `folder`; the environment of who works there."""
    (folder / "shop").mkdir()
    (folder / "settings.py").write_text(
        'def read_settings(path):\n    """Reads the settings."""\n    return open(path).read()\n'
    )
    (folder / "shop" / "cart.py").write_text(
        "class Cart:\n    def add(self, item, price):\n        self.items.append((item, price))\n"
    )
    kept = ("CACHE_", "REDIS_", "MEMORY_CACHE_", "QUERYCACHE_", "XDG_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(kept)}  # noqa: TID251 -- what a process gets
    path = f"{Path(sys.executable).parent}:{env['PATH']}"
    return env | {"HOME": str(folder.parent / "home"), "PATH": path, "COLUMNS": "100"}


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).with_suffix("").as_posix()


@pytest.mark.parametrize(
    "page", [page for page in WRITTEN if runnable(page, "python")], ids=name_of
)
def test_every_python_example_runs(page: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    sources = tmp_path / "examples.py"
    sources.write_text("\0".join(runnable(page, "python")))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUNNER, sources],
        cwd=folder,
        env=project(folder),
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


SHOWN = [page for page in WRITTEN if page.parent != ROOT and runnable(page, "sh")]


@pytest.mark.parametrize("page", SHOWN, ids=name_of)
def test_every_shell_block_runs(page: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(runnable(page, "sh"))],
        cwd=folder,
        env=project(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def command_lines() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for page in WRITTEN:
        for _, body in fenced(page, "sh"):
            joined = body.replace("\\\n", " ")
            for line in re.findall(r"(?m)(?:^|&& |\| |\$\()(?:\w+=\S+ )*querycache (.*)", joined):
                words = re.split(r" [|&>#]|\)|;|  +#", line)[0]
                found.append((name_of(page), words.strip()))
    return found


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_every_command_line_parses(page: str, line: str) -> None:
    """Parsed by the command itself, not run."""
    del page
    command: Any = typer.main.get_command(command_line)
    context: Any = None
    words = shlex.split(line)
    while hasattr(command, "commands") and words and words[0] not in {"--version", "--help"}:
        context = typer.Context(command, parent=context)
        command = command.commands[words.pop(0)]
    if not {"--version", "--help"} & set(words):
        command.make_context("querycache", words, parent=context)
