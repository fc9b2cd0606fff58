"""The main job with real processes: killed while it indexes, shared, and edited under."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from tests.redis_kit import free_port
from tests.unit.usecases.app_kit import make_project

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

COMMAND = [sys.executable, "-m", "querycache"]


class Counted(msgspec.Struct):
    files: int


def many_files(count: int) -> dict[str, str]:
    return {
        f"package_{n % 7}/module_{n}.py": "\n\n".join(
            f"def function_{n}_{m}(argument):\n    '''Does step {m} of {n}.'''\n"
            f"    return argument + {n} * {m}\n"
            for m in range(12)
        )
        for n in range(count)
    }


def environ_of(home: Path) -> dict[str, str]:
    return {**os.environ, "QUERYCACHE_HOME": str(home)}


def ask(home: Path, *arguments: str) -> dict[str, object]:
    done = subprocess.run(
        [*COMMAND, *arguments, "--json"],
        env=environ_of(home),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_a_killed_indexing_run_loses_nothing_and_starts_over_nowhere(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample", many_files(400))
    whole = ask(tmp_path / "undisturbed", "index", str(project))
    home, chance = tmp_path / "home", random.Random(7)
    survived: list[int] = []
    for _ in range(4):
        run = subprocess.Popen(
            [*COMMAND, "index", str(project)],
            env=environ_of(home),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(chance.uniform(0.8, 2.5))
        run.send_signal(signal.SIGKILL)
        run.wait(10)
        rows = msgspec.convert(ask(home, "projects")["projects"], list[Counted])
        survived.append(rows[0].files if rows else 0)
    assert survived == sorted(survived)  # a killed run never costs what an earlier one did
    last = ask(home, "index", str(project))
    assert last["files"] == whole["files"] == 400
    assert last["chunks"] == whole["chunks"]
    assert last["files_changed"] == 400 - survived[-1]
    query = ("search", "does step 7 of 133", "--project", "sample")
    assert ask(home, *query)["results"] == ask(tmp_path / "undisturbed", *query)["results"]


@contextmanager
def served(home: Path, project: Path) -> Generator[str]:
    port = free_port()
    process = subprocess.Popen(
        [*COMMAND, "serve", str(project), "--port", str(port)],
        env=environ_of(home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{url}/health/ready", timeout=5):
                    break
            except OSError:
                assert process.poll() is None, process.stderr and process.stderr.read()
                time.sleep(0.05)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
        assert process.returncode in (0, -signal.SIGTERM), said
        assert "Traceback" not in said


def post(url: str, body: dict[str, object]) -> tuple[dict[str, object], str]:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer), answer.headers["X-Cache"]


class Row(msgspec.Struct):
    path: str
    text: str


def hits_of(answer: dict[str, object]) -> list[Row]:
    return msgspec.convert(answer["results"], list[Row])


def test_two_servers_and_an_edit(tmp_path: Path) -> None:
    project = make_project(tmp_path / "sample", many_files(60))
    edited = project / "package_3/module_17.py"
    home = tmp_path / "home"
    question: dict[str, object] = {"query": "does step 5 of 17", "project": "sample"}
    with served(home, project) as one, served(home, project) as two:
        deadline = time.monotonic() + 40
        while not post(f"{one}/search", question)[0]["results"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        for round_ in range(5):
            for url in (one, two):
                answer, _ = post(f"{url}/search", question)
                again, told = post(f"{url}/search", question)
                assert again["results"] == answer["results"]
                assert told == "hit; tier=l1"
            text = edited.read_text()
            edited.write_text(text.replace("'''Does step", f"'''Round {round_}: does step"))
            edited_text = edited.read_text()
            for url in (one, two):
                rows = hits_of(post(f"{url}/search", question)[0])
                here = [row for row in rows if row.path == "package_3/module_17.py"]
                assert here
                assert all(row.text in edited_text for row in here)
