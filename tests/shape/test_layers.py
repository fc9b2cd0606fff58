"""Imports go down: the contracts in `.importlinter`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.shape.tree import ROOT


@pytest.mark.timeout(120)
def test_the_layer_contracts_are_kept():
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout
