"""What memory this process may have, out of the kernel's files."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path

import pytest

from querycache.observe import memory_pressure
from querycache.observe.memory_pressure import (
    Mount,
    ProcessMemory,
    Used,
    address_space,
    folders_of,
    mounts_of,
    resident,
    stalled_of,
    tightest,
    used_of_v1,
    used_of_v2,
)

MB = 1 << 20
V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
)
NO_LIMIT = "9223372036854771712\n"


def machine(root: Path, files: Mapping[str, str]) -> ProcessMemory:
    """A machine of 8 GB, 2 of them in use; the process has 50 MB in memory, 300 of addresses."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return ProcessMemory(
        root, system=lambda: Used(2000 * MB, 8000 * MB), own=lambda: (50 * MB, 300 * MB)
    )


def v2(limit: str, current: int, inactive: int = 0, high: str = "max") -> dict[str, str]:
    return {
        "memory.max": f"{limit}\n",
        "memory.high": f"{high}\n",
        "memory.current": f"{current}\n",
        "memory.stat": f"anon 5\nfile 6\ninactive_file {inactive}\nactive_file 7\n",
    }


def under(folder: str, files: Mapping[str, str]) -> dict[str, str]:
    return {f"{folder}/{name}": text for name, text in files.items()}


def test_without_a_limit_it_is_the_machine(tmp_path: Path):
    reading = machine(tmp_path, {}).read()
    assert (reading.source, reading.used, reading.limit) == ("system", 2000 * MB, 8000 * MB)
    assert (reading.rss, reading.stalled) == (50 * MB, None)
    assert reading.share == 0.25


def test_a_cgroup_v2_without_the_pages_that_the_kernel_gives_back(tmp_path: Path):
    files = {"proc/self/cgroup": "0::/app/web\n", "proc/self/mountinfo": V2}
    files |= under("sys/fs/cgroup/app/web", v2(str(100 * MB), 90 * MB, 30 * MB))
    files |= under("sys/fs/cgroup/app", v2("max", 3000 * MB))
    reading = machine(tmp_path, files).read()
    assert (reading.source, reading.used, reading.limit) == ("cgroup", 60 * MB, 100 * MB)


def test_the_tightest_of_the_ancestors_counts(tmp_path: Path):
    files = {"proc/self/cgroup": "0::/app/web\n", "proc/self/mountinfo": V2}
    files |= under("sys/fs/cgroup/app/web", v2(str(100 * MB), 60 * MB))
    files |= under("sys/fs/cgroup/app", v2(str(400 * MB), 390 * MB))
    reading = machine(tmp_path, files).read()
    assert (reading.used, reading.limit) == (390 * MB, 400 * MB)


def test_a_cgroup_v1(tmp_path: Path):
    files = {
        "proc/self/cgroup": "4:memory:/a/b\n1:cpu:/\n0::/\n",
        "proc/self/mountinfo": V1,
        "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": f"{200 * MB}\n",
        "sys/fs/cgroup/memory/a/b/memory.usage_in_bytes": f"{150 * MB}\n",
        "sys/fs/cgroup/memory/a/b/memory.stat": f"total_inactive_file {40 * MB}\n",
        "sys/fs/cgroup/memory/a/memory.limit_in_bytes": NO_LIMIT,
        "sys/fs/cgroup/memory/memory.limit_in_bytes": NO_LIMIT,
    }
    reading = machine(tmp_path, files).read()
    assert (reading.source, reading.used, reading.limit) == ("cgroup", 110 * MB, 200 * MB)


def test_a_container_sees_its_own_cgroup_as_the_root(tmp_path: Path):
    """Docker without a namespace: /proc/self/cgroup says the host's path, the mount shows it."""
    mount = "35 31 0:32 /docker/77ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
    files = {
        "proc/self/cgroup": "4:memory:/docker/77ab\n",
        "proc/self/mountinfo": mount,
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{64 * MB}\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{32 * MB}\n",
    }
    assert machine(tmp_path, files).read().limit == 64 * MB


def test_a_limit_beyond_the_machine_is_none(tmp_path: Path):
    files = {"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": V2}
    files |= under("sys/fs/cgroup", v2(str(9000 * MB), 8999 * MB))
    assert machine(tmp_path, files).read().source == "system"


def test_a_limit_of_the_address_space(tmp_path: Path):
    limits = (
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        f"Max address space         {400 * MB}            unlimited            bytes     \n"
    )
    reading = machine(tmp_path, {"proc/self/limits": limits}).read()
    assert (reading.source, reading.share) == ("address space", 0.75)
    assert address_space(limits.replace(str(400 * MB), "unlimited")) is None
    assert address_space("") is None


def test_stalls_are_the_cgroups_else_the_machines(tmp_path: Path):
    psi = "some avg10=1.50 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.10 avg60=0 total=1\n"
    files = {"proc/pressure/memory": psi, "proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": V2}
    assert machine(tmp_path, files).read().stalled == 1.5
    files["sys/fs/cgroup/a/memory.pressure"] = psi.replace("1.50", "33.00")
    assert machine(tmp_path, files).read().stalled == 33.0


@pytest.mark.parametrize("text", ["", "full avg10=1", "some", "some avg10=much", "some x"])
def test_no_stalls_are_told_where_the_kernel_tells_none(text: str):
    assert stalled_of(text) is None


@pytest.mark.parametrize(
    "files",
    [{}, {"memory.max": "max"}, {"memory.max": "5"}, v2("garbage", 3), v2("0", 3), v2("max", 3)],
)
def test_what_says_nothing_is_no_limit(files: Mapping[str, str]):
    assert used_of_v2(files) is None
    assert used_of_v1(files) is None


def test_high_is_a_limit_too():
    assert used_of_v2(v2("1000", 300, high="400")) == Used(300, 400)
    assert used_of_v2(v2("200", 100, high="400")) == Used(100, 200)


def test_more_inactive_than_used_is_nothing_used():
    assert used_of_v2(v2("100", 10, 20)) == Used(0, 100)


def test_mounts_and_folders():
    assert mounts_of(V2 + V1 + "garbage\n\n") == [
        Mount(2, "/", "/sys/fs/cgroup"),
        Mount(1, "/", "/sys/fs/cgroup/memory"),
    ]
    assert folders_of("0::/a/b\n", mounts_of(V2)) == [
        (2, "/sys/fs/cgroup/a/b"),
        (2, "/sys/fs/cgroup/a"),
        (2, "/sys/fs/cgroup"),
    ]
    assert folders_of("0::/../x\n", mounts_of(V2)) == [(2, "/sys/fs/cgroup")]
    assert folders_of("nonsense\n", mounts_of(V1)) == []


def test_the_fullest_limit_is_the_tightest():
    found = tightest([Used(5, 10), None], Used(9, 12), Used(1, 100))
    assert found == ("address space", Used(9, 12))


def test_this_very_process_can_be_read():
    reading = ProcessMemory().read()
    assert 0 < reading.used <= reading.limit
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert 0 < reading.rss < 1.25 * peak  # the kernel's counts lag a little
    assert resident() > 0
    assert memory_pressure.give_back() in {True, False}


def test_a_process_that_is_not_there():
    with pytest.raises(LookupError, match="can't be looked at"):
        resident(2**22 + 1)
