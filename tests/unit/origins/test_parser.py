"""The parser cuts in processes of its own, which may hang or die without harm."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from querycache.errors import NotAvailableError
from querycache.origins.parser import MAX_BYTES, TreeSitterParser
from querycache.ports.origins import ParsedFile, Parser

pytestmark = pytest.mark.asyncio

PYTHON = b"class A:\n    def f(self):\n        return 1\n"


@pytest_asyncio.fixture
async def parser() -> AsyncIterator[TreeSitterParser]:
    parser = TreeSitterParser()
    yield parser
    await parser.close()


def workers() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "parser_worker" in " ".join(child.cmdline())
    ]


def whole(parsed: ParsedFile, data: bytes) -> bool:
    return b"".join(data[chunk.start : chunk.end] for chunk in parsed.chunks) == data


async def until_gone(process: psutil.Process) -> None:
    async with asyncio.timeout(10):
        await asyncio.to_thread(process.wait)


async def test_it_is_a_parser(parser: TreeSitterParser):
    port: Parser = parser
    parsed = await port.parse("a.py", PYTHON)
    assert (parsed.language, parsed.had_errors) == ("python", False)
    assert [chunk.symbol for chunk in parsed.chunks] == ["A"]
    assert (await port.parse("a.py", b"def (:\n")).had_errors


async def test_the_version_is_that_of_the_installed_grammars(parser: TreeSitterParser):
    assert parser.version == TreeSitterParser().version
    assert len(parser.version) == 16


async def test_no_process_is_started_before_it_is_needed(parser: TreeSitterParser):
    assert (await parser.parse("a.txt", b"words\n")).language == "text"
    assert (await parser.parse("a.py", b"")).chunks == ()
    assert workers() == []
    await parser.parse("a.py", PYTHON)
    await parser.parse("a.go", b"package a\n")
    assert len(workers()) == 1


async def test_many_at_once_come_back_each_to_its_own(parser: TreeSitterParser):
    files = [f"def f{n}():\n    return {n}\n".encode() for n in range(300)]
    parsed = await asyncio.gather(*(parser.parse("a.py", data) for data in files))
    assert [one.chunks[0].symbol for one in parsed] == [f"f{n}" for n in range(300)]


async def test_several_processes_share_the_work():
    parser = TreeSitterParser(processes=2)
    try:
        files = [f"def f{n}(): pass\n".encode() for n in range(50)]
        parsed = await asyncio.gather(*(parser.parse("a.py", data) for data in files))
        assert len(workers()) == 2
        assert all(whole(one, data) for one, data in zip(parsed, files, strict=True))
    finally:
        await parser.close()
    assert workers() == []


async def test_a_child_of_a_fork_has_a_process_of_its_own(parser: TreeSitterParser):
    await parser.parse("a.py", PYTHON)

    def parsed_in_a_child() -> int:
        child = os.fork()
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)  # whatever hangs
        os._exit(asyncio.run(parser.parse("a.py", PYTHON)).had_errors)

    assert await asyncio.to_thread(parsed_in_a_child) == 0
    assert not (await parser.parse("a.py", PYTHON)).had_errors
    assert len(workers()) == 1


async def test_a_large_file_is_cut_by_lines(parser: TreeSitterParser):
    data = b"x = 1\n" * (MAX_BYTES // 6 + 1)
    parsed = await parser.parse("a.py", data)
    assert parsed.language == "python"
    assert whole(parsed, data)
    assert workers() == []


async def test_a_file_of_the_largest_size_passes_the_pipes(parser: TreeSitterParser):
    data = b"var answer = 1;\n" * (MAX_BYTES // 16)
    parsed = await parser.parse("a.js", data)
    assert not parsed.had_errors
    assert whole(parsed, data)


async def test_a_parse_that_hangs_is_cut_by_lines_and_harms_no_other():
    parser = TreeSitterParser(time_limit_s=0.5)
    try:
        await parser.parse("a.py", PYTHON)
        (worker,) = workers()
        os.kill(worker.pid, signal.SIGSTOP)  # hangs, as a grammar can
        first, second, third = await asyncio.gather(
            *(parser.parse("a.py", PYTHON) for _ in range(3))
        )
        assert first.had_errors
        assert whole(first, PYTHON)
        assert not second.had_errors
        assert not third.had_errors
        await until_gone(worker)
        assert len(workers()) == 1
    finally:
        await parser.close()


async def test_a_file_that_takes_too_much_cpu_time_is_cut_by_lines():
    parser = TreeSitterParser(time_limit_s=0.05)
    try:
        await parser.parse("a.py", PYTHON)
        (worker,) = workers()
        data = b"var a=1;" * (MAX_BYTES // 8)
        parsed = await parser.parse("a.js", data)
        assert parsed.had_errors
        assert whole(parsed, data)
        assert not (await parser.parse("a.py", PYTHON)).had_errors
        assert workers() != [worker]
    finally:
        await parser.close()


async def test_a_process_that_dies_is_replaced(parser: TreeSitterParser):
    await parser.parse("a.py", PYTHON)
    (worker,) = workers()
    worker.kill()
    await until_gone(worker)
    parsed = await asyncio.gather(*(parser.parse("a.py", PYTHON) for _ in range(20)))
    assert not any(one.had_errors for one in parsed)


async def test_a_process_that_dies_over_a_file_gets_it_once_more(parser: TreeSitterParser):
    await parser.parse("a.py", PYTHON)
    (worker,) = workers()
    os.kill(worker.pid, signal.SIGSTOP)
    waiting = [asyncio.ensure_future(parser.parse("a.py", PYTHON)) for _ in range(4)]
    await asyncio.sleep(0)
    worker.kill()
    assert not any(one.had_errors for one in await asyncio.gather(*waiting))


async def test_a_cancelled_caller_leaves_the_others_their_answers(parser: TreeSitterParser):
    files = [f"def f{n}(): pass\n".encode() for n in range(20)]
    calls = [asyncio.ensure_future(parser.parse("a.py", data)) for data in files]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    done = await asyncio.gather(*calls, return_exceptions=True)
    kept = [one for one in done if isinstance(one, ParsedFile)]
    assert [one.chunks[0].symbol for one in kept] == [f"f{n}" for n in range(1, 20, 2)]


async def test_closing_ends_the_process_and_refuses_more(parser: TreeSitterParser):
    await parser.parse("a.py", PYTHON)
    (worker,) = workers()
    await parser.close()
    await parser.close()
    assert not worker.is_running()
    with pytest.raises(NotAvailableError):
        await parser.parse("a.py", PYTHON)


async def test_a_process_that_does_not_start_is_told(
    parser: TreeSitterParser, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    for executable in (tmp_path / "missing", Path("/bin/true")):
        monkeypatch.setattr("sys.executable", str(executable))
        with pytest.raises(NotAvailableError):
            await parser.parse("a.py", PYTHON)


PARENT = """
import asyncio, os, signal, psutil
from querycache.origins.parser import TreeSitterParser

async def main():
    parser = TreeSitterParser()
    await parser.parse("a.py", b"a = 1")
    print(psutil.Process().children()[0].pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_it_works_from_one_loop_after_another():
    parser = TreeSitterParser()

    def use() -> None:
        for _ in range(3):
            assert not asyncio.run(parser.parse("a.py", PYTHON)).had_errors
            assert len(workers()) == 1
        asyncio.run(parser.close())

    await asyncio.to_thread(use)
    assert workers() == []


async def test_a_parser_that_nobody_holds_ends_its_process():
    parser = TreeSitterParser()
    await parser.parse("a.py", PYTHON)
    (worker,) = workers()
    del parser
    gc.collect()
    await until_gone(worker)


async def test_a_process_does_not_outlive_its_parent():
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, timeout=25
    )
    assert done.returncode == -signal.SIGKILL
    with contextlib.suppress(psutil.NoSuchProcess):
        await until_gone(psutil.Process(int(done.stdout)))


async def test_nothing_is_imported_from_the_working_directory(
    parser: TreeSitterParser, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    trap = tmp_path / "trap"
    for name in ("tree_sitter.py", "msgspec.py", "querycache.py"):
        (tmp_path / name).write_text(f"open({str(trap)!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    assert not (await parser.parse("a.py", PYTHON)).had_errors
    assert not trap.exists()
