"""Everything that querycache logs in a block, to look for what must not be there."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager


class Logs(logging.Handler):
    """Everything that was logged."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.add(self.format(record))

    def add(self, text: str) -> None:
        self._lines.append(text)

    @property
    def text(self) -> str:
        return "\n".join(self._lines)

    def around(self, word: str) -> str:
        return next(line for line in self._lines if word in line)


@contextmanager
def logged() -> Generator[Logs]:
    """What querycache logs in the block, at every level."""
    logs, root = Logs(), logging.getLogger("querycache")
    level = root.level
    root.addHandler(logs)
    root.setLevel(logging.DEBUG)
    try:
        yield logs
    finally:
        root.removeHandler(logs)
        root.setLevel(level)
