"""What this machine lets us do: whether a process runs, whether a folder takes files, how much of
its disk is free.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import psutil


def stopped(pid: int) -> bool:
    """Whether a process exists and does not run: SIGSTOP, a debugger, a dead disk."""
    try:
        status = psutil.Process(pid).status()
    except psutil.Error:
        return False
    return status in {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP}


def refusal(folder: Path) -> str:
    """Why no file can be made in a folder; "" where it can."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".doctor-", dir=folder)
        try:
            os.write(handle, b"x")
        finally:
            os.close(handle)
            Path(name).unlink()
    except OSError as error:
        return f"{folder}: {error.strerror}"
    return ""


def disk(folder: Path) -> tuple[int, int] | None:
    """The bytes that are free on the disk of a folder (or of the nearest one above it that there
    is), and all its bytes; None where it can't be asked.
    """
    for place in (folder, *folder.parents):
        try:
            usage = shutil.disk_usage(place)
        except OSError:
            continue
        return usage.free, usage.total
    return None
