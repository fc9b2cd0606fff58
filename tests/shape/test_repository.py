"""The repository as others get it: no trace of one machine, pinned requirements, a whole wheel."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.shape.tree import MODULES, ROOT, SOURCES, tracked

ONE_MACHINE = re.compile(
    rb"https?://[a-z0-9.-]*(?:pypi|pythonhosted|npmjs|debian)\.[a-z]+|/(?:work|root|farm)/|/opt/[p]ypi|[.]{2}/shared/"
)
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))
PINNED = re.compile(r"[a-z0-9][a-z0-9._-]*==[^\s;]+( ; [^\\]+)?( --hash=sha256:[0-9a-f]{64})+")


def test_no_file_speaks_of_one_machine():
    found = {
        path.relative_to(ROOT).as_posix(): match[0]
        for path in tracked()
        if path.suffix != ".svg" and (match := ONE_MACHINE.search(path.read_bytes()))
    }
    assert found == {}


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_requirements_are_pinned_with_hashes_and_hold_no_address(path: Path):
    text = path.read_text(encoding="utf-8").replace("\\\n", "")
    lines = [" ".join(line.split()) for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) > 10
    assert [line for line in lines if line and not PINNED.fullmatch(line)] == []


def test_what_is_needed_to_run_is_what_is_pinned_for_tests():
    base, dev = (
        set(
            re.findall(
                r"(?m)^\S+==\S+", (ROOT / "requirements" / name).read_text(encoding="utf-8")
            )
        )
        for name in ("base.txt", "dev.txt")
    )
    assert base <= dev


def test_continuous_integration_can_run():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    assert targets >= {"install", "demo", "serve", "test", "soak", "lint", "bench"}


@pytest.mark.live
@pytest.mark.timeout(120)
def test_a_wheel_holds_the_whole_package_and_works_without_the_sources(tmp_path: Path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    build = [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "unpacked")
    modules = {f"querycache/{path.relative_to(SOURCES).as_posix()}" for path in MODULES}
    assert names >= modules | {"querycache/py.typed"}
    assert not any(name.startswith(("tests/", "bench/")) for name in names)
    code = "import querycache; print(querycache.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "unpacked")},  # noqa: TID251 -- a child's
        capture_output=True,
        check=True,
        text=True,
    )
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "unpacked")
