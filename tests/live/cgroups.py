"""A cgroup of the test's own that limits memory, where the machine lets one be made."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path("/sys/fs/cgroup")


class Cgroup(NamedTuple):
    """A folder of the kernel's, and the version of its files."""

    folder: Path
    version: int

    def within(self, command: Sequence[str]) -> list[str]:
        """A command line that does the same inside."""
        join = 'echo $$ > "$0" && exec "$@"'
        return ["/bin/sh", "-c", join, str(self.folder / "cgroup.procs"), *command]

    def killed(self) -> int:
        """How many processes the kernel killed for want of memory."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        lines = (self.folder / name).read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


@contextmanager
def limited(megabytes: int) -> Generator[Cgroup]:
    """A cgroup of so many megabytes. Skips the test where none can be made."""
    made = _made(megabytes * 1024 * 1024)
    try:
        yield made
    finally:
        for _ in range(100):
            with suppress(OSError):  # what ran there may not be gone yet
                made.folder.rmdir()
                break
            time.sleep(0.05)


def _made(limit: int) -> Cgroup:
    if os.geteuid() != 0:
        pytest.skip("a cgroup can be made by root only")
    name = f"querycache-test-{os.getpid()}-{time.monotonic_ns()}"
    plans = (
        (ROOT / "memory" / name, 1, "memory.limit_in_bytes"),
        (ROOT / name, 2, "memory.max"),
    )
    why = "no cgroup hierarchy with the memory controller is mounted"
    for folder, version, file in plans:
        try:
            folder.mkdir()
        except OSError as error:
            why = f"no cgroup can be made: {error}"
            continue
        try:
            if not (folder / file).exists() and version == 2:
                (ROOT / "cgroup.subtree_control").write_text("+memory")
            (folder / file).write_text(str(limit))
        except OSError as error:
            why = f"a cgroup can't be limited: {error}"
            folder.rmdir()
            continue
        return Cgroup(folder, version)
    pytest.skip(why)
