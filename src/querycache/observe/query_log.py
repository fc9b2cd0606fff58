"""The query log: what was asked of each project, so that a cold cache can be warmed with it.

A JSON line for each question, with the filters that are not the usual ones; one file a project,
readable by its owner only. A file that has grown past its bound is cut to its newer half.
"""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import msgspec

from querycache.clock import Clock
from querycache.keys import digest, encode
from querycache.ports.origins import Mode, Question

_MOST_BYTES = 1024 * 1024
_LONGEST_QUERY = 1000
_LONGEST_NAME = 160  # characters; file systems allow 255 bytes
_HALF_LIFE_S = 7 * 24 * 3600.0


class _Line(msgspec.Struct, omit_defaults=True):
    """A question that was asked at `t` (wall seconds): text, mode, limit, language, path."""

    t: float
    q: str
    m: Mode = "hybrid"
    k: int = 10
    l: str = ""  # noqa: E741 -- a name in a file
    p: str = ""

    def question(self) -> Question:
        return Question(self.q, None, self.m, self.k, self.l, self.p)


class QueryLog:
    """The log of one machine. A disk that refuses costs the record, never the question. Switched
    off, it neither records nor tells.
    """

    def __init__(self, folder: Path, clock: Clock, *, on: bool = True) -> None:
        self._folder = folder
        self._clock = clock
        self._on = on

    def record(self, project: str, asked: Question) -> None:
        """Notes that it was asked."""
        if not self._on or len(asked.text) + len(asked.path) > _LONGEST_QUERY:
            return
        at = round(self._clock.wall(), 1)
        noted = _Line(at, asked.text, asked.mode, asked.limit, asked.language, asked.path)
        try:
            line = msgspec.json.encode(noted) + b"\n"
        except UnicodeEncodeError:  # no text, but bytes that a shell passed on
            return
        path = self._path(project)
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
            handle = os.open(path, flags, 0o600)
            try:
                os.write(handle, line)
                size = os.fstat(handle).st_size
            finally:
                os.close(handle)
            if size > _MOST_BYTES:
                self._cut(path)

    def popular(self, project: str, limit: int = 200) -> list[Question]:
        """What was asked most, first; a question counts half as much after a week."""
        if not self._on:
            return []
        now = self._clock.wall()
        weights: defaultdict[Question, float] = defaultdict(float)
        with suppress(OSError):
            for row in self._path(project).read_bytes().splitlines():
                with suppress(msgspec.DecodeError, UnicodeDecodeError):
                    line = msgspec.json.decode(row, type=_Line)
                    weights[line.question()] += 0.5 ** (max(0.0, now - line.t) / _HALF_LIFE_S)
        return sorted(weights, key=weights.__getitem__, reverse=True)[:limit]

    def forget(self, project: str) -> None:
        """Drops a project's log."""
        with suppress(OSError):
            self._path(project).unlink()

    def _path(self, project: str) -> Path:
        name = encode(project)
        if len(name) > _LONGEST_NAME:
            name = f"{name[:_LONGEST_NAME]}-{digest(project)}"
        return self._folder / f"{name}.jsonl"

    def _cut(self, path: Path) -> None:
        data = path.read_bytes()
        part = path.with_suffix(f".{os.getpid()}")
        part.write_bytes(data[data.index(b"\n", len(data) // 2) + 1 :])
        part.chmod(0o600)
        part.replace(path)
