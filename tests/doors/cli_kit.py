"""A command line run in this process or in its own, and a project to run it on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from querycache.doors.cli.main import run

FILES = {
    "app/settings.py": (
        "import os\n\n\ndef read_settings(environment):\n"
        '    """Reads the configuration from environment variables."""\n'
        '    return {"debug": environment.get("DEBUG", "") == "1"}\n'
    ),
    "app/store.py": (
        "def save_record(path, record):\n"
        '    """Writes a record to a file on disk."""\n'
        '    with open(path, "w") as file:\n        file.write(record)\n'
    ),
    "app/errors.go": "package app\n\nfunc Fail(why string) error {\n\treturn errors.New(why)\n}\n",
    "README.md": "# Sample\n\nParses the command line arguments and stores records.\n",
}


class Ended(NamedTuple):
    """How a command ended and what it said."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on standard output; the command was fine."""
        assert self.status == 0, self.err
        assert self.out.count("\n") == 1
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found  # pyright: ignore[reportUnknownVariableType]  # any JSON


class Cli:
    """Runs commands in this process, over a store of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str) -> Ended:
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            run(words)
        said = self._capsys.readouterr()
        assert isinstance(end.value.code, int)
        return Ended(end.value.code, said.out, said.err)


def write(root: Path, files: Mapping[str, str] = FILES) -> Path:
    """A project of these files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def command(*words: str) -> list[str]:
    """A command line for a process of its own."""
    return [sys.executable, "-m", "querycache", *words]


def environment(**changed: str) -> dict[str, str]:
    """This process's environment, with changes."""
    return {**os.environ, **changed}  # noqa: TID251 -- handed on


def spawn(words: Sequence[str], *, cwd: Path | None = None, **changed: str) -> Ended:
    """Runs a command in a process of its own."""
    done = subprocess.run(
        command(*words),
        capture_output=True,
        check=False,
        cwd=cwd,
        env=environment(**changed),
        stdin=subprocess.DEVNULL,
        text=True,
    )
    return Ended(done.returncode, done.stdout, done.stderr)
