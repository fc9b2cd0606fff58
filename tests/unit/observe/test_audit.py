from __future__ import annotations

import logging
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import msgspec
import pytest

from querycache.observe.audit import AuditLine, AuditLog
from querycache.testing import FakeClock

HOSTILE = [
    'a"}\n{"who": "root"',
    "line\r\nbreak",
    "\x1b[31mred",
    "\u202egnp",
    "\ud800",
    "x" * 10_000,
    "\0",
]


def log(folder: Path, most: int = 1 << 20) -> AuditLog:
    return AuditLog(folder / "private" / "audit.jsonl", FakeClock(wall=1000.0), most_bytes=most)


def test_who_did_what_is_one_line_that_its_owner_reads(tmp_path: Path) -> None:
    audit = log(tmp_path)
    audit.write("ada", "read", "denied", project="shop", key="secret-key")
    (line,) = audit.lines()
    assert (line.at, line.who, line.what, line.outcome) == (1000.0, "ada", "read", "denied")
    path = tmp_path / "private" / "audit.jsonl"
    assert b"secret-key" not in path.read_bytes()
    assert len(line.key) == 16
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert audit.lines(since=1000.1) == []


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_forges_a_line(tmp_path: Path, name: str) -> None:
    audit = log(tmp_path)
    audit.write(name, name, "denied", project=name, key=name)
    audit.write("ada", "read", "done")
    assert [line.who for line in audit.lines()][1:] == ["ada"]
    assert len((tmp_path / "private" / "audit.jsonl").read_bytes().splitlines()) == 2
    assert audit.verify() == ""


def test_what_was_changed_dropped_or_put_in_shows(tmp_path: Path) -> None:
    audit = log(tmp_path)
    for number in range(5):
        audit.write("ada", f"call {number}", "done")
    path = tmp_path / "private" / "audit.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    forged = msgspec.json.encode(AuditLine(1.0, "eve", "x", "", "", "done", "0" * 64)) + b"\n"
    for changed in (
        lines[:2] + lines[3:],
        [*lines[:2], forged, *lines[2:]],
        [*lines[:1], lines[1].replace(b"ada", b"eve"), *lines[2:]],
        [*lines[:2], b"no json\n", *lines[2:]],
        [lines[1], lines[0], *lines[2:]],
    ):
        path.write_bytes(b"".join(changed))
        assert "line" in audit.verify()
    path.write_bytes(b"".join(lines))
    assert audit.verify() == ""


def test_a_full_file_is_set_aside_and_the_chain_goes_on(tmp_path: Path) -> None:
    audit = log(tmp_path, most=1000)
    for number in range(40):
        audit.write("ada", f"call {number}", "done")
    files = sorted(path.name for path in (tmp_path / "private").glob("*.jsonl"))
    assert len(files) > 3
    assert [line.what for line in audit.lines()] == [f"call {number}" for number in range(40)]
    assert audit.verify() == ""


def test_a_line_that_a_crash_cut_off_takes_no_other_with_it(tmp_path: Path) -> None:
    audit = log(tmp_path)
    audit.write("ada", "one", "done")
    path = tmp_path / "private" / "audit.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    audit.write("ada", "two", "done")
    assert [line.what for line in audit.lines()] == ["two"]
    assert audit.verify() == "line 1 is no audit line"


def test_a_disk_that_refuses_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "private").write_text("a file where the folder should be")
    audit = log(tmp_path)
    with caplog.at_level(logging.WARNING, logger="querycache"):
        audit.write("ada", "one", "done")
        audit.write("ada", "two", "done")
    assert len([record for record in caplog.records if "audit" in record.message]) == 1


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "elsewhere").write_text("")
    (tmp_path / "private" / "audit.jsonl").symlink_to(tmp_path / "elsewhere")
    log(tmp_path).write("ada", "one", "done")
    assert (tmp_path / "elsewhere").read_text() == ""


def test_a_file_set_aside_never_takes_the_place_of_another(tmp_path: Path) -> None:
    audit = log(tmp_path, most=300)
    for number in range(6):
        audit.write("ada", f"call {number}", "done")
    first, *_ = sorted((tmp_path / "private").glob("audit.0*.jsonl"))
    kept = len(audit.lines()) - len(first.read_bytes().splitlines())
    first.unlink()  # an operator makes room
    for number in range(6):
        audit.write("ada", f"later {number}", "done")
    assert len(audit.lines()) == kept + 6
    assert audit.verify() == ""


def test_whoever_reads_while_others_write_sees_a_whole_chain(tmp_path: Path) -> None:
    audit = log(tmp_path, most=600)
    over = Event()

    def write() -> None:
        other = log(tmp_path, most=600)
        while not over.is_set():
            other.write("ada", "call", "done")

    with ThreadPoolExecutor(2) as threads:
        writers = [threads.submit(write) for _ in range(2)]
        try:
            found = [audit.verify() for _ in range(60)]
        finally:
            over.set()
    assert [one.exception() for one in writers] == [None, None]
    assert found == [""] * 60
