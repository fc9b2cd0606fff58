"""One index, several processes: whole answers, no lost commit, rights that die with their
holder.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

import apsw
import pytest
from tests.behaviour.index_suite import MODES, ask
from tests.live.index_process import FILES, generation, open_index

from querycache.errors import ProjectNotFoundError
from querycache.origins.indexes import SqliteIndexes

pytestmark = pytest.mark.live

Process = subprocess.Popen[str]
Start = Callable[..., Process]


@pytest.fixture
def start() -> Iterator[Start]:
    processes: list[Process] = []

    def run(role: str, folder: Path, *arguments: str) -> Process:
        command = [sys.executable, "-m", "tests.live.index_process", role, str(folder), *arguments]
        root = Path(__file__).parents[2]
        processes.append(
            subprocess.Popen(
                command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        )
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def line(process: Process) -> str:
    return pipe(process.stdout).readline().strip()


def end(process: Process) -> None:
    process.communicate(timeout=20)
    assert process.returncode == 0


def digests(folder: Path, count: int) -> list[str]:
    """The digest of each generation, as an index elsewhere has them."""
    index = open_index(str(folder))
    found = [index.apply(generation(number), [], []).digest for number in range(count)]
    index.close()
    return found


def integrity(folder: Path) -> object:
    connection = apsw.Connection(str(folder / "p" / "index.sqlite"))
    try:
        return cast("object", connection.pragma("integrity_check"))  # pyright: ignore[reportUnknownMemberType]  # apsw's stubs
    finally:
        connection.close()


def test_three_read_whole_changes_while_one_writes(tmp_path: Path, start: Start) -> None:
    count = 30
    expected = digests(tmp_path / "rehearsal", count)
    folder = tmp_path / "shared"
    empty = open_index(str(folder))
    empty_digest = empty.state().digest
    empty.close()
    readers = [start("read", folder, expected[-1]) for _ in range(3)]
    assert [line(reader) for reader in readers] == ["ready"] * 3
    writer = start("write", folder, "0", str(count))
    for reader in readers:
        seen: dict[str, list[str]] = json.loads(line(reader))
        assert seen.pop(empty_digest, []) == []
        assert seen == {digest: [f"generation {expected.index(digest)}"] for digest in seen}
        end(reader)
    end(writer)


def test_a_killed_writer_loses_nothing_that_it_committed(tmp_path: Path, start: Start) -> None:
    expected = digests(tmp_path / "rehearsal", 60)
    folder = tmp_path / "shared"
    choose = random.Random(6)
    done = -1
    for _ in range(6):
        writer = start("write", folder, str(done + 1), "60")
        for _ in range(choose.randint(1, 6)):
            done = int(line(writer))
        writer.kill()
        rest = pipe(writer.stdout).read().split()
        done = int(rest[-1]) if rest else done
        index = open_index(str(folder))
        state = index.state()
        assert expected.index(state.digest) in {done, done + 1}
        done = expected.index(state.digest)
        assert (state.files, len(index.known())) == (FILES, FILES)
        for mode in MODES:
            hits = index.search(ask("generation part2", mode, limit=200)).hits
            assert {hit.text.split()[1] for hit in hits} <= {str(done)}
        index.close()
        assert integrity(folder) == "ok"


def test_processes_that_make_an_index_at_once_make_one(tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "shared"
    makers = [start("add", folder, name) for name in "abcd"]
    for maker in makers:
        pipe(maker.stdin).write("go\n")
        pipe(maker.stdin).flush()
    for maker in makers:
        end(maker)
    index = SqliteIndexes(str(folder)).open("p")
    assert sorted(index.known()) == ["a.py", "b.py", "c.py", "d.py"]
    index.close()


def test_a_right_ends_with_its_process(tmp_path: Path, start: Start) -> None:
    indexes = SqliteIndexes(str(tmp_path))
    holder = start("hold", tmp_path)
    assert line(holder) == "held"
    assert indexes.try_lock("p", "index") is None
    holder.kill()
    holder.wait(timeout=10)
    lock = indexes.try_lock("p", "index")
    assert lock is not None
    lock.release()


def test_forgetting_while_others_write_spoils_nothing(tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "shared"
    writers = [start("persist", folder) for _ in range(2)]
    assert [line(writer) for writer in writers] == ["ready"] * 2
    indexes = SqliteIndexes(str(folder))
    for _ in range(25):
        indexes.forget("p")
        try:
            index = open_index(str(folder))
            index.apply(generation(1), [], [])
            index.close()
        except ProjectNotFoundError:
            pytest.fail("only this process forgets")
        assert integrity(folder) == "ok"
    (tmp_path / "shared.stop").touch()
    for writer in writers:
        end(writer)
    assert integrity(folder) == "ok"
    assert not list(folder.glob(".damaged-*"))
