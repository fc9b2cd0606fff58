"""Backup files: whole or not there, and refused for every bit that is not what was written."""

from __future__ import annotations

import errno
import os
import stat
from hashlib import blake2b
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_128_digest

from querycache.codec import backup_format
from querycache.codec.backup_file import DiskBackups
from querycache.errors import BackupError
from querycache.ports.backup import About, Contents, Manifest, Saved
from querycache.values import Stamp

ABOUT = About(1.7e9, "codebase_rag", "memory", "querycache test", Stamp(1, 2))
FILES = DiskBackups()

rows = st.lists(
    st.builds(
        Saved, name=st.binary(max_size=30), data=st.binary(max_size=200), expires_at=st.floats()
    ),
    max_size=8,
)


def saved(count: int, start: int = 0) -> list[Saved]:
    return [Saved(b"n:%d" % n, b"data" * n, 2e9 + n) for n in range(start, start + count)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def written(path: Path, *blocks: list[Saved], force: bool = False) -> Manifest:
    writer = FILES.create(str(path), ABOUT, force=force)
    for block in blocks:
        writer.write(block)
    return writer.finish(Contents({"other": sum(map(len, blocks))}, {"salt": b"wrapped"}))


def read(path: Path) -> list[list[Saved]]:
    reader = FILES.open(str(path))
    try:
        return list(reader.rows())
    finally:
        reader.close()


@given(st.lists(rows, max_size=4))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[list[Saved]]
):
    path = tmp_path_factory.mktemp("made") / "a.qcb"
    made = written(path, *blocks)
    reader = FILES.open(str(path))
    assert reader.manifest == made
    assert made.contents.secrets == {"salt": b"wrapped"}
    assert made.entries == sum(map(len, blocks))
    assert made.file_bytes == path.stat().st_size
    assert repr(list(reader.rows())) == repr(blocks)  # NaN is no NaN's equal
    reader.close()


def test_it_is_for_its_owner_alone_and_leaves_nothing_beside_it(tmp_path: Path):
    path = tmp_path / "a.qcb"
    written(path, saved(3))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(tmp_path) == ["a.qcb"]


def test_nothing_is_there_before_the_end_and_nothing_after_giving_up(tmp_path: Path):
    path = tmp_path / "a.qcb"
    writer = FILES.create(str(path), ABOUT)
    writer.write(saved(3))
    assert not path.exists()
    writer.abandon()
    writer.abandon()
    assert names(tmp_path) == []


def test_what_is_there_stays_without_force(tmp_path: Path):
    path = tmp_path / "a.qcb"
    written(path, saved(1))
    before = path.read_bytes()
    with pytest.raises(BackupError, match="exists"):
        FILES.create(str(path), ABOUT)
    written(path, saved(5), force=True)
    assert path.read_bytes() != before
    writer = FILES.create(str(tmp_path / "b.qcb"), ABOUT)
    (tmp_path / "b.qcb").write_text("came meanwhile")
    with pytest.raises(BackupError, match="exists"):
        writer.finish(Contents({}))
    writer.abandon()
    assert (tmp_path / "b.qcb").read_text() == "came meanwhile"
    assert names(tmp_path) == ["a.qcb", "b.qcb"]


def test_force_replaces_backups_alone(tmp_path: Path):
    path = tmp_path / "a.qcb"
    path.write_text("mine")
    with pytest.raises(BackupError, match="it is no backup"):
        FILES.create(str(path), ABOUT, force=True)
    assert path.read_text() == "mine"
    assert names(tmp_path) == ["a.qcb"]
    path.write_bytes(b"")  # as mktemp makes it
    written(path, saved(1), force=True)
    writer = FILES.create(str(path), ABOUT, force=True)
    path.write_text("came meanwhile")
    with pytest.raises(BackupError, match="it is no backup"):
        writer.finish(Contents({}))
    writer.abandon()
    assert path.read_text() == "came meanwhile"


def test_a_file_system_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "a.qcb"
    written(path, saved(2))
    assert read(path) == [saved(2)]
    assert names(tmp_path) == ["a.qcb"]


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path):
    path = tmp_path / ("\u5099" * 85)
    written(path, saved(1))
    assert read(path) == [saved(1)]


def test_a_symbolic_link_is_called_one(tmp_path: Path):
    written(tmp_path / "a.qcb", saved(1))
    (tmp_path / "newest.qcb").symlink_to("a.qcb")
    with pytest.raises(BackupError, match="symbolic link"):
        FILES.open(str(tmp_path / "newest.qcb"))


def test_no_link_is_followed_and_no_pipe_read(tmp_path: Path):
    kept = tmp_path / "kept"
    kept.write_text("mine")
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(kept)
    os.mkfifo(pipe)
    for path in (link, pipe, tmp_path):
        with pytest.raises(BackupError):
            FILES.create(str(path), ABOUT, force=True)
        with pytest.raises(BackupError):
            FILES.open(str(path))
        with pytest.raises(BackupError):
            FILES.flat(str(path))
    assert kept.read_text() == "mine"
    with pytest.raises(BackupError, match="No such file"):
        FILES.create(str(tmp_path / "none" / "a.qcb"), ABOUT)


def test_entries_can_be_left_out_again(tmp_path: Path):
    path = tmp_path / "a.qcb"
    writer = FILES.create(str(path), ABOUT)
    first, second = saved(20), saved(3, 20)
    writer.write(first)
    writer.write(second)
    assert writer.read(0) == first
    assert writer.blocks == 2
    writer.drop(0, [0, 8, 19])
    made = writer.finish(Contents({}))
    assert made.entries == 20
    assert made.bytes == sum(len(row.data) for row in (*first, *second)) - 4 * (0 + 8 + 19)
    assert read(path) == [[r for n, r in enumerate(first) if n not in {0, 8, 19}], second]


def test_every_truncation_and_every_flipped_bit_is_refused(tmp_path: Path):
    path = tmp_path / "a.qcb"
    written(path, saved(3), saved(2, 3))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(BackupError):
            read(path)
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        with pytest.raises(BackupError):
            read(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(BackupError, match="goes on"):
        read(path)


def test_blocks_that_are_left_out_doubled_or_reordered_are_refused(tmp_path: Path):
    path = tmp_path / "a.qcb"
    written(path, saved(3), saved(2, 3))
    whole = path.read_bytes()
    parts, at = [whole[: backup_format.HEAD_SIZE]], backup_format.HEAD_SIZE
    while at < len(whole):
        length = backup_format.read_frame(whole[at : at + backup_format.BLOCK_SIZE]).length
        parts.append(whole[at : at + backup_format.BLOCK_SIZE + length])
        at += backup_format.BLOCK_SIZE + length
    head, about, first, second, end = parts
    for order in (
        (head, about, second, first, end),
        (head, about, first, end),
        (head, about, first, first, second, end),
        (head, first, about, second, end),
        (head, about, about, first, second, end),
        (head, end),
        (head, about, first, second),
    ):
        path.write_bytes(b"".join(order))
        with pytest.raises(BackupError):
            read(path)


def forged(kind: bytes, packing: int, raw_length: int, data: bytes) -> bytes:
    """A block with a checksum that holds."""
    before = backup_format._BLOCK.pack(kind, packing, raw_length, len(data))  # pyright: ignore[reportPrivateUsage]  # to forge one
    return before + xxh3_128_digest(before + data) + data


@pytest.mark.parametrize(
    "block",
    [
        forged(backup_format.ENTRIES, 1, backup_format.MAX_BLOCK, zstandard.compress(bytes(100))),
        forged(backup_format.ENTRIES, 1, 50, zstandard.compress(bytes(10_000_000))),
        forged(backup_format.ENTRIES, 0, 2**32 - 1, b""),
        forged(backup_format.ENTRIES, 2, 1, b"\x90"),
        forged(b"Z", 0, 1, b"\x90"),
        forged(backup_format.ENTRIES, 0, 5, b"\xdd\xff\xff\xff\xff"),  # an array of 2**32-1
        forged(backup_format.ENTRIES, 0, 5000, b"\x91" * 5000),
        forged(backup_format.ENTRIES, 0, 7, msgspec.msgpack.encode([["a", 1]])[:7].ljust(7)),
    ],
)
def test_bombs_and_absurd_lengths_are_refused(tmp_path: Path, block: bytes):
    path = tmp_path / "a.qcb"
    before = backup_format.head() + backup_format.frame(backup_format.ABOUT, ABOUT) + block
    digest = blake2b(before, digest_size=32).digest()
    end = backup_format.End(1, 0, 0, Contents({}), {}, digest)
    path.write_bytes(before + backup_format.frame(backup_format.END, end))
    with pytest.raises(BackupError):
        read(path)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes):
    path = tmp_path_factory.mktemp("any") / "a.qcb"
    path.write_bytes(backup_format.head() + data)
    with pytest.raises(BackupError):
        read(path)


def test_another_version_says_so(tmp_path: Path):
    path = tmp_path / "a.qcb"
    written(path, saved(1))
    path.write_bytes(backup_format.MAGIC + b"\0\2" + path.read_bytes()[10:])
    with pytest.raises(BackupError, match="format 2") as error:
        read(path)
    assert "version" in error.value.remedy


def test_a_flat_file_is_one_json_object(tmp_path: Path):
    path = tmp_path / "a.json"
    for before in (" ", "\n" * 9):
        path.write_text(before + '{"a": 1, "b": {"c": [1, 2]}}')
        assert FILES.flat(str(path)) == {"a": 1, "b": {"c": [1, 2]}}
    for wrong in ('{"a": 1', "{" + '"a":[' * 5000, '{"a": 1} more'):
        path.write_text(wrong)
        with pytest.raises(BackupError, match="JSON"):
            FILES.flat(str(path))
    path.write_text("[1, 2]")
    assert FILES.flat(str(path)) is None
    written(tmp_path / "a.qcb", saved(1))
    assert FILES.flat(str(tmp_path / "a.qcb")) is None
