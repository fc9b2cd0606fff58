"""Cuts files into chunks along their syntax trees, in processes that can be killed.

Design note. A grammar's C code can hang, crash or eat memory on hostile text, holds the GIL, and
can't be interrupted, so it runs in processes of its own: fresh interpreters (no fork of a process
with threads and sockets) that speak frames over pipes. Each has a thread of ours that writes a
file, waits and reads, so that it belongs to no event loop and outlives each of them. When its time
is over the process dies; that file is cut by lines, and the next one gets a new process. A process
that dies of something else gets its file once more, then it is cut by lines too.

The time is CPU time, counted by the process itself, so that a busy machine cuts a file no other
way than an idle one: equal content and versions have to give equal chunks. Wall time is a second
limit, for a process that is stopped.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import json
import os
import select
import signal
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import IO, cast

import msgspec

from querycache.clock import SystemClock
from querycache.errors import NotAvailableError
from querycache.origins import chunking
from querycache.origins.chunking import chunks_of, cut_lines
from querycache.origins.languages import GRAMMARS, language_of
from querycache.origins.parser_wire import LENGTH, Reply, Request, frame
from querycache.ports.origins import ParsedFile

MAX_BYTES = 1_000_000
"""A larger file is cut by lines."""

_WALL = 4  # times the CPU time
_START_S = 30.0  # for a process to import what it needs
_READ = 1 << 16
_INLINE = 16_384  # bytes that are cut by lines in less time than a thread takes to start
_TRIES = 2  # of a file whose process dies under it

# Isolated, so that nothing in the working directory or the environment is imported; the parent's
# own path then says where querycache and the grammars are.
_BOOT = """\
import json, sys
sys.path[:] = json.loads(sys.argv.pop(1))
from querycache.origins.parser_worker import main
main()
"""


class TreeSitterParser:
    """`Parser` on tree-sitter grammars.

    `processes` parse side by side, started when first needed. A file gets `time_limit_s` of CPU
    time and four times that of wall time, and is cut by lines then (`had_errors`), as is a file
    that crashes its process twice.
    Works from any event loop and thread. `parse` raises `NotAvailableError` where no process can
    be started, and after `close`.
    """

    def __init__(self, *, processes: int = 1, time_limit_s: float = 5.0) -> None:
        self.version = _version()
        self._lanes = [_Lane(time_limit_s) for _ in range(processes)]
        self._closed = False

    def language_of(self, path: str) -> str:
        return language_of(path)

    async def parse(self, path: str, data: bytes) -> ParsedFile:
        if self._closed:
            raise NotAvailableError("the parser was closed")
        language = language_of(path)
        if language not in GRAMMARS or len(data) > MAX_BYTES or not data:
            return await _by_lines(language, data, had_errors=False)
        lane = min(self._lanes, key=lambda lane: lane.load)
        reply = await lane.cut(Request(language, data))
        if reply is None:
            return await _by_lines(language, data, had_errors=True)
        try:
            return ParsedFile(language, chunks_of(data, reply.cuts), reply.had_errors)
        except ValueError:  # a process that its file took over
            return await _by_lines(language, data, had_errors=True)

    async def close(self) -> None:
        self._closed = True
        for lane in self._lanes:
            await asyncio.to_thread(lane.close)


async def _by_lines(language: str, data: bytes, *, had_errors: bool) -> ParsedFile:
    def cut() -> ParsedFile:
        return ParsedFile(language, chunks_of(data, cut_lines(data)), had_errors)

    return cut() if len(data) <= _INLINE else await asyncio.to_thread(cut)


def _version() -> str:
    """A digest over everything that decides where the chunks begin and end."""
    distributions = {"tree-sitter", *(grammar.distribution for grammar in GRAMMARS.values())}
    installed = {name: importlib.metadata.version(name) for name in distributions}
    described = json.dumps([chunking.VERSION, installed], sort_keys=True)
    return hashlib.blake2b(described.encode(), digest_size=8).hexdigest()


class _LateError(Exception):
    """The process took longer than it may over this file."""


class _CrashedError(Exception):
    """The process died over this file."""


class _Lane:
    """One process at a time, replaced when it dies, and the thread that talks to it."""

    def __init__(self, time_limit_s: float) -> None:
        self.load = 0  # files waiting or being parsed; a hint
        self._time_limit_s = time_limit_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="querycache-parser")
        self._process: _Process | None = None
        self._closed = False
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Reply).decode
        _OPEN.add(self)

    def after_fork(self) -> None:
        """A child has neither its parent's thread nor any right to its process."""
        self.load = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="querycache-parser")
        if self._process is not None:
            self._process.disown()
            self._process = None

    async def cut(self, request: Request) -> Reply | None:
        """None for a file that can't be parsed in time, or kills its process."""
        self.load += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._cut, request)
        except RuntimeError as error:  # the thread takes nothing more
            raise NotAvailableError("the parser was closed") from error
        finally:
            self.load -= 1

    def close(self) -> None:
        """Ends the process and the thread; who waits is told."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()  # what is being read ends
        self._thread.shutdown()
        if self._process is not None:
            self._process.end()

    def _cut(self, request: Request) -> Reply | None:
        framed = frame(self._encode(request))
        for _ in range(_TRIES):
            process = self._running()
            try:
                return self._decode(process.ask(framed, _WALL * self._time_limit_s))
            except _LateError:
                self._drop(process)
                return None
            except (_CrashedError, msgspec.MsgspecError):
                self._drop(process)
        return None

    def _running(self) -> _Process:
        if not self._closed and self._process is None:
            self._process = _Process(self._time_limit_s)
        if self._closed or self._process is None:
            raise NotAvailableError("the parser was closed")
        return self._process

    def _drop(self, process: _Process) -> None:
        self._process = None
        process.end()


class _Process:
    """A running parser process: one request, one reply. Belongs to one thread, but for `kill`."""

    def __init__(self, time_limit_s: float) -> None:
        """Raises `NotAvailableError` where it does not start."""
        arguments = [json.dumps([entry for entry in sys.path if entry]), str(time_limit_s)]
        try:
            self._popen = subprocess.Popen(  # noqa: S603 -- our own interpreter
                [sys.executable, "-I", "-c", _BOOT, *arguments],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            raise NotAvailableError(f"the parser's process does not start: {error}") from error
        self.end = weakref.finalize(self, _end, self._popen)
        self._now = SystemClock().monotonic
        self._source = cast("IO[bytes]", self._popen.stdout).fileno()
        self._sink = cast("IO[bytes]", self._popen.stdin).fileno()
        os.set_blocking(self._sink, False)
        try:
            self.ask(b"", _START_S)
        except (_LateError, _CrashedError) as error:
            self.end()
            raise NotAvailableError(
                "the parser's process ended while it started",
                remedy=f"run {sys.executable} -c 'import querycache.origins.parser_worker'",
            ) from error

    def ask(self, framed: bytes, limit_s: float) -> bytes:
        """The body of the reply. Raises `_LateError`, `_CrashedError`: then it must be ended."""
        until = self._now() + limit_s
        try:
            rest = memoryview(framed)
            while rest:
                self._wait(self._sink, select.POLLOUT, until)
                rest = rest[os.write(self._sink, rest) :]
            (size,) = LENGTH.unpack(self._read(LENGTH.size, until))
            return self._read(size, until)
        except OSError:  # a pipe whose other end is gone
            raise self._ended() from None

    def kill(self) -> None:
        """From any thread."""
        self._popen.kill()

    def disown(self) -> None:
        """Closes the pipes of what is another's process."""
        self.end.detach()
        _close(self._popen)
        self._popen.returncode = 0  # so that nobody waits for it

    def _read(self, size: int, until: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._wait(self._source, select.POLLIN, until)
            part = os.read(self._source, min(size - len(data), _READ))
            if not part:
                raise self._ended()
            data += part
        return bytes(data)

    def _wait(self, pipe: int, what: int, until: float) -> None:
        poll = select.poll()  # select(2) knows no descriptor past 1,023
        poll.register(pipe, what)
        left = until - self._now()
        if left <= 0.0 or not poll.poll(left * 1000):
            raise _LateError

    def _ended(self) -> Exception:
        self._popen.kill()
        return _LateError() if self._popen.wait() == -signal.SIGPROF else _CrashedError()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    _close(process)


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _after_fork() -> None:
    for lane in list(_OPEN):
        lane.after_fork()


_OPEN: weakref.WeakSet[_Lane] = weakref.WeakSet()
os.register_at_fork(after_in_child=_after_fork)
