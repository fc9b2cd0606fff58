"""What the machine lets us do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from querycache.observe.machine import disk, refusal, stopped


def test_a_process_that_is_stopped():
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            assert not stopped(process.pid)
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
            assert stopped(process.pid)
        finally:
            process.kill()
    assert not stopped(process.pid)


def test_a_folder_that_takes_files_or_says_why_not(tmp_path: Path):
    assert not refusal(tmp_path / "made" / "here")
    assert list((tmp_path / "made" / "here").iterdir()) == []
    file = tmp_path / "file"
    file.touch()
    assert refusal(file) == f"{file}: File exists"
    assert refusal(file / "below") == f"{file / 'below'}: Not a directory"


def test_the_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path):
    free, total = disk(tmp_path / "not" / "yet") or (0, 0)
    assert 0 < free <= total
    assert disk(tmp_path) is not None
