"""The emergency reset with a docker that only notes what it is told, and the lines for cron."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from querycache.doors.cli.program import app

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "emergency_cache_reset.sh"
CRON = ROOT / "deploy" / "cron" / "querycache"
GUIDE = ROOT / "docs" / "how-to" / "maintenance.md"

FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def noting(folder: Path, name: str, answer: str = "") -> None:
    """A program that notes its arguments."""
    program = folder / name
    program.write_text(f'#!/bin/sh\necho "{name} $*" >> "{folder}/noted"\n{answer}\n')
    program.chmod(0o755)


def reset(folder: Path, answer: str) -> subprocess.CompletedProcess[str]:
    """Runs a copy of the script, so that nothing of this checkout is near."""
    script = folder / "deploy" / SCRIPT.name
    script.parent.mkdir(exist_ok=True)
    shutil.copy(SCRIPT, script)
    path = os.pathsep.join((str(folder), "/usr/bin", "/bin"))
    return subprocess.run(
        ["/bin/sh", script],
        input=answer,
        capture_output=True,
        check=False,
        env={"PATH": path, "HOME": str(folder)},
        text=True,
    )


def noted(folder: Path) -> list[str]:
    file = folder / "noted"
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.parametrize("answer", ["no\n", "y\n", "YES\n", "", "yes please\n"])
def test_any_other_answer_than_yes_changes_nothing(tmp_path: Path, answer: str):
    noting(tmp_path, "docker", "echo container")
    noting(tmp_path, "querycache")
    done = reset(tmp_path, answer)
    assert "Reset cancelled" in done.stdout
    assert done.returncode == 1
    assert noted(tmp_path) == []


def test_yes_takes_the_volumes_of_its_own_compose_project_alone(tmp_path: Path):
    folder = tmp_path / "my stack"
    folder.mkdir()
    noting(
        folder, "docker", 'case "$*" in *ps*) printf "redis-cache\\nredis-cache-tls\\n" ;; esac'
    )
    noting(folder, "querycache")
    done = reset(folder, "yes\n")
    assert done.returncode == 0, done.stderr
    compose = f"docker compose -f {folder}/docker-compose.cache.yml"
    assert noted(folder) == [
        f"{compose} --profile * ps --all --services",
        f"{compose} --profile * down --volumes --timeout 60",
        f"{compose} up -d redis-cache redis-cache-tls",
    ]
    assert "Cache system reset complete" in done.stdout
    assert "volume rm" not in SCRIPT.read_text()


@pytest.mark.parametrize("name", ["mine", '"123"'])
def test_what_a_stack_that_is_down_has_left_goes_too(tmp_path: Path, name: str):
    answers = f"*config*) echo 'name: {name}' ;; *volume*) echo one ;;"
    noting(tmp_path, "docker", f'case "$*" in {answers} esac')
    noting(tmp_path, "querycache")
    done = reset(tmp_path, "yes\n")
    assert done.returncode == 0, done.stderr
    label = f"label=com.docker.compose.project={name.strip(chr(34))}"
    told = noted(tmp_path)
    assert f"docker volume ls --quiet --filter {label}" in told
    assert told[-2].endswith("down --volumes --timeout 60")
    assert told[-1].endswith("up -d")


@pytest.mark.parametrize("docker", ["", "exit 1", "exit 0"])
def test_without_containers_the_cache_itself_is_reset(tmp_path: Path, docker: str):
    if docker:
        noting(tmp_path, "docker", docker)
    noting(tmp_path, "querycache")
    done = reset(tmp_path, "yes\n")
    assert done.returncode == 0, done.stderr
    assert noted(tmp_path)[-1] == "querycache reset --yes"


def test_a_reset_that_fails_is_told(tmp_path: Path):
    noting(tmp_path, "docker", 'case "$*" in *down*) exit 7 ;; *) echo container ;; esac')
    done = reset(tmp_path, "yes\n")
    assert done.returncode == 7
    assert "complete" not in done.stdout


def test_the_script_is_for_any_shell():
    subprocess.run(["sh", "-n", SCRIPT], check=True)
    checker = shutil.which("shellcheck")
    if checker:
        subprocess.run([checker, SCRIPT], check=True)


def commands_in(line: str) -> list[list[str]]:
    """The arguments of each `querycache` in a line of a shell; what is substituted is a word."""
    plain = re.sub(r"\$\([^()]*\)", "word", re.sub(r"\$\([^()]*\)", "word", line))
    parts = re.split(r"&&|;|\|", plain)
    found: list[list[str]] = []
    for part in parts:
        words = [w for w in shlex.split(part) if not re.match(r"[A-Za-z_0-9]+=", w)]
        if words[:1] == ["querycache"]:
            end = next((n for n, w in enumerate(words) if w.startswith(">")), len(words))
            found.append(words[1:end])
    return found


def parses(words: list[str]) -> None:
    """Fails where the program would not understand these words. Nothing is run."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        name, *words = words
        assert name in command.commands
        command = command.commands[name]
    assert command.make_context(command.name, words) is not None


def test_every_line_for_cron_would_run():
    lines = CRON.read_text().splitlines()
    told: list[str] = []
    for line in lines:
        if not line or line.startswith("#") or re.fullmatch(r"[A-Z]+=\S+", line):
            continue
        *times, user, words = line.split(None, 6)
        for (low, high), field in zip(FIELDS, times, strict=True):
            for number in [] if field == "*" else field.split(","):
                assert low <= int(number) <= high
        assert user == "querycache"
        assert not re.search(r"(?<!\\)%", words)  # cron reads it as a new line
        found = commands_in(words.replace("\\%", "%"))
        assert found, line
        for command in found:
            parses(command)
            told.append(command[0])
    assert told == ["backup", "stats", "health", "verify", "restore"]


def test_every_command_of_the_checklist_is_one():
    named = re.findall(r"`(querycache [^`]*)`", GUIDE.read_text())
    known: Any = typer.main.get_command(app)
    later = {"doctor", "report"}
    assert {name.split()[1] for name in named} <= set(known.commands) | later
    assert len(named) > 10
