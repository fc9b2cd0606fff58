"""Cuts files into chunks along their syntax trees, in processes that can be killed.

Design note. A grammar's C code can hang, crash or eat memory on hostile text, holds the GIL, and
can't be interrupted, so it runs in processes of its own: fresh interpreters (no fork of a process
with threads and sockets) that speak frames over pipes. Requests are pipelined: the process always
has the next file at hand, and answers in order, so the first waiter is the one whose file is being
parsed. When its time is over the process dies; that file is cut by lines, and the others wait
again for the next process. A process that dies of something else gets its file once more, then it
is cut by lines too.

The time is CPU time, counted by the process itself, so that a busy machine cuts a file no other
way than an idle one: equal content and versions have to give equal chunks. Wall time is a second
limit, for a process that is stopped.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import json
import signal
import sys
from collections import deque
from typing import Literal, cast

import msgspec

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
_AT_ONCE = 8  # files on their way to one process
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
    Belongs to the event loop it is first used on. `parse` raises `NotAvailableError` where no
    process can be started, and after `close`.
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
            await lane.close()


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


class _EndedError(Exception):
    """The process ended before its answer: late (killed over this file), crashed (over this file),
    or waiting (over another one).
    """

    def __init__(self, state: Literal["late", "crashed", "waiting"]) -> None:
        super().__init__(state)
        self.state = state


class _Lane:
    """One process at a time, replaced when it dies."""

    def __init__(self, time_limit_s: float) -> None:
        self.load = 0  # files waiting or being parsed
        self._time_limit_s = time_limit_s
        self._starting = asyncio.Lock()
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._process: _Process | None = None
        self._ending: list[_Process] = []
        self._closed = False

    async def cut(self, request: Request) -> Reply | None:
        """None for a file that can't be parsed in time, or kills its process."""
        self.load += 1
        try:
            async with self._room:
                return await self._cut(request)
        finally:
            self.load -= 1

    async def _cut(self, request: Request) -> Reply | None:
        crashes = 0
        while crashes < _TRIES:
            process = await self._running()
            try:
                return await process.ask(request)
            except _EndedError as ended:
                if ended.state == "late":
                    return None
                crashes += ended.state == "crashed"
        return None

    async def _running(self) -> _Process:
        async with self._starting:
            if self._closed:
                raise NotAvailableError("the parser was closed")
            if self._process is None or not self._process.alive:
                if self._process is not None:
                    self._ending = [old for old in self._ending if not old.gone.done()]
                    self._ending.append(self._process)
                self._process = await _started(self._time_limit_s)
            return self._process

    async def close(self) -> None:
        self._closed = True
        async with self._starting:
            for process in (*self._ending, *([self._process] if self._process else [])):
                process.end("waiting")
                await process.gone
            self._process, self._ending = None, []


async def _started(time_limit_s: float) -> _Process:
    arguments = [json.dumps([entry for entry in sys.path if entry]), str(time_limit_s)]
    try:
        _, process = await asyncio.get_running_loop().subprocess_exec(
            lambda: _Process(time_limit_s),
            *(sys.executable, "-I", "-c", _BOOT, *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        raise NotAvailableError(f"the parser's process does not start: {error}") from error
    try:
        async with asyncio.timeout(_START_S):
            await process.ready
    except (TimeoutError, _EndedError) as error:
        raise NotAvailableError(
            "the parser's process ended while it started",
            remedy=f"run {sys.executable} -c 'import querycache.origins.parser_worker'",
        ) from error
    finally:
        if not (process.ready.done() and not process.ready.cancelled() and process.alive):
            process.end("waiting")
            await process.gone
    return process


class _Process(asyncio.SubprocessProtocol):
    """A running parser process: requests in, replies out, in order."""

    def __init__(self, time_limit_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self.alive = True
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self._time_limit_s = time_limit_s
        self._waiting: deque[asyncio.Future[Reply]] = deque()
        self._received = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Reply).decode

    def ask(self, request: Request) -> asyncio.Future[Reply]:
        answer: asyncio.Future[Reply] = self._loop.create_future()
        if not self.alive:
            answer.set_exception(_EndedError("waiting"))
            return answer
        self._waiting.append(answer)
        if len(self._waiting) == 1:
            self._set_timer()
        stdin = cast("asyncio.WriteTransport", self._transport.get_pipe_transport(0))
        stdin.write(frame(self._encode(request)))
        return answer

    def end(self, state: Literal["late", "crashed", "waiting"]) -> None:
        """Kills the process; `state` is what the file being parsed is told."""
        if not self.alive:
            return
        self.alive = False
        self._stop_timer()
        self._transport.close()
        waiting, self._waiting = self._waiting, deque()
        for answer in waiting:
            if not answer.done():
                answer.set_exception(_EndedError(state))
            state = "waiting"
        if not self.ready.done():
            self.ready.set_exception(_EndedError("crashed"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        del fd
        self._received += data
        while len(self._received) >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self._received)
            end = LENGTH.size + size
            if len(self._received) < end:
                return
            body = bytes(self._received[LENGTH.size : end])
            del self._received[:end]
            self._answer(body)

    def _answer(self, body: bytes) -> None:
        self._stop_timer()
        if not body:
            self.ready.set_result(None)
        elif self._waiting:
            answer = self._waiting.popleft()
            if self._waiting:
                self._set_timer()
            try:
                reply = self._decode(body)
            except msgspec.MsgspecError:
                self._waiting.appendleft(answer)
                self.end("crashed")
                return
            if not answer.done():  # its caller was cancelled
                answer.set_result(reply)

    def process_exited(self) -> None:
        late = self._transport.get_returncode() == -signal.SIGPROF
        self.end("late" if late else "crashed")

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.end("crashed")
        self.gone.set_result(None)

    def _set_timer(self) -> None:
        self._timer = self._loop.call_later(_WALL * self._time_limit_s, self.end, "late")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
