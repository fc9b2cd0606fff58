"""The audit log: who did what, or was refused, as JSON lines that are chained by their digests.

Each line carries the SHA-256 of the line before it, so one that was changed, dropped or put in
shows, unless it is the last, or whoever did it wrote all that follow anew: no key is involved.
Lines are appended under a file lock, by all processes to one file; a file that is full is set
aside under a number, and the next one's first line goes on with the chain.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path

import msgspec

from querycache.clock import Clock
from querycache.observe.event_log import LOGGER
from querycache.ports.access import Outcome

_MOST_BYTES = 8 * 1024 * 1024
_LONGEST = 256
_LONGEST_LINE = 8192
_FIRST = "0" * 64


class AuditLine(msgspec.Struct, frozen=True):
    """One occurrence. `at` in wall seconds; `key` is a digest, never a key; `before` is the digest
    of the line before it.
    """

    at: float
    who: str
    what: str
    project: str
    key: str
    outcome: Outcome
    before: str


class AuditLog:
    """The log of one user on one machine. A disk that refuses is told in the log, once; what is
    audited goes on.
    """

    def __init__(self, path: Path, clock: Clock, *, most_bytes: int = _MOST_BYTES) -> None:
        """`path` is made when the first line is written, for its owner alone."""
        self._path = path
        self._clock = clock
        self._most_bytes = most_bytes
        self._refused = False

    def write(
        self, who: str, what: str, outcome: Outcome, *, project: str = "", key: str = ""
    ) -> None:
        """Appends a line. Names are cut; JSON keeps each in its place, whatever it holds."""
        try:
            self._append(who, what, outcome, project, key)
        except OSError as error:
            if not self._refused:
                self._refused = True
                LOGGER.warning("the audit log %s can't be written: %s", self._path, error.strerror)

    def lines(self, since: float = 0.0) -> list[AuditLine]:
        """What was told since then (wall seconds), oldest first; of the files that there are.
        Raises `OSError`.
        """
        found = [line for _, line in self._read()]
        return [line for line in found if line is not None and line.at >= since]

    def verify(self) -> str:
        """Why the chain does not hold: which line of which file; empty where it does."""
        expected, place = "", ""
        for number, (raw, line) in enumerate(self._read(), start=1):
            place = f"line {number}"
            if line is None:
                return f"{place} is no audit line"
            if expected and line.before != expected:
                return f"{place} does not follow the line before it"
            expected = sha256(raw).hexdigest()
        return ""

    def _append(self, who: str, what: str, outcome: Outcome, project: str, key: str) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked(fcntl.LOCK_EX):
            before, torn = self._last()
            line = AuditLine(
                round(self._clock.wall(), 3),
                who[:_LONGEST],
                what[:_LONGEST],
                project[:_LONGEST],
                sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16] if key else "",
                outcome,
                before,
            )
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
            handle = os.open(self._path, flags, 0o600)
            try:
                encoded = torn + _encoded(line)
                if os.write(handle, encoded) < len(encoded):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(handle)

    @contextmanager
    def _locked(self, how: int) -> Generator[None]:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        lock = os.open(self._path.with_suffix(".lock"), flags, 0o600)
        try:
            fcntl.flock(lock, how)
            yield
        finally:
            os.close(lock)

    def _last(self) -> tuple[str, bytes]:
        """The digest of the last line, and what ends it where a crash did not; sets a full file
        aside.
        """
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _LONGEST_LINE))
                tail = file.read()
            last = tail.splitlines()[-1]
        except (FileNotFoundError, IndexError):
            return _FIRST, b""
        if size >= self._most_bytes:
            aside = self._aside()
            number = int(aside[-1].name.split(".")[-2]) + 1 if aside else 1
            self._path.rename(self._path.with_suffix(f".{number:04}.jsonl"))
            return sha256(last).hexdigest(), b""
        return sha256(last).hexdigest(), b"" if tail.endswith(b"\n") else b"\n"

    def _aside(self) -> list[Path]:
        return sorted(self._path.parent.glob(f"{self._path.stem}.[0-9][0-9][0-9][0-9].jsonl"))

    def _read(self) -> Iterator[tuple[bytes, AuditLine | None]]:
        if not self._path.parent.is_dir():
            return
        with ExitStack() as opened:
            with self._locked(fcntl.LOCK_SH):  # so that none is being set aside
                paths = [path for path in (*self._aside(), self._path) if path.exists()]
                files = [opened.enter_context(path.open("rb")) for path in paths]
                sizes = [path.stat().st_size for path in paths]
            for file, size in zip(files, sizes, strict=True):
                while file.tell() < size:
                    raw = file.readline().rstrip(b"\n")
                    try:
                        yield raw, msgspec.json.decode(raw, type=AuditLine)
                    except ValueError:
                        yield raw, None


class NoAudit:
    """Writes nothing down, where the settings say so."""

    def write(
        self, who: str, what: str, outcome: Outcome, *, project: str = "", key: str = ""
    ) -> None:
        """Forgets it."""


def _encoded(line: AuditLine) -> bytes:
    fields = {
        name: value.encode("utf-8", "backslashreplace").decode()
        if isinstance(value, str)
        else value
        for name, value in msgspec.structs.asdict(line).items()
    }
    return msgspec.json.encode(fields) + b"\n"
