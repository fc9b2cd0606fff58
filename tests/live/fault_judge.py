"""The judge of every answer that caches give over a Redis that fails.

Design note. Each key is changed by one worker only, one change after the other, so that for every
read it is known which versions it may bring: none older than the newest whose change had ended
when the read began. In the process of the change itself that holds always; in another one after a
bound while all are connected, and again from two seconds after a fault on. A value says its key
and its version, and is longer for some.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Generator
from contextlib import contextmanager

from tests.live.fault_report import Findings

BOUND_S = 0.5
"""How old an answer of another process may be while all is well; 50 ms where nothing else runs."""

SETTLED_S = 2.0
"""After a fault, the same."""

KEYS = [f"key{number}" for number in range(24)]

now = time.monotonic


def value_of(key: str, version: int) -> str:
    """The only value of a version."""
    return f"{key}#{version}#" + chr(97 + version % 26) * (version * 37 % 3000)


class Judge:
    """Knows what is true, and judges what is read.

    Attributes:
        origin: The present version of each key.
        troubles: Start and end of each fault.
    """

    def __init__(self, found: Findings) -> None:
        self.found = found
        self.origin = dict.fromkeys(KEYS, 0)
        self.troubles: list[tuple[float, float]] = []
        self.began = now()
        self._losing = False
        self._ended: dict[str, tuple[list[float], list[int]]] = {key: ([], []) for key in KEYS}

    def changed(self, key: str, version: int) -> None:
        """The change to a version has ended."""
        times, versions = self._ended[key]
        times.append(now())
        versions.append(version)

    @contextmanager
    def losing(self) -> Generator[None]:
        """What is acknowledged in the block, and was before, may be lost: the servers do not
        promise more. An older version is no fault until it is over.
        """
        self._losing = True
        try:
            yield
        finally:
            self._losing = False
            for times, versions in self._ended.values():
                times.clear()
                versions.clear()

    @contextmanager
    def trouble(self) -> Generator[None]:
        """A fault, from the start of the block to its end."""
        place, since = len(self.troubles), now()
        self.troubles.append((since, float("inf")))
        try:
            yield
        finally:
            self.troubles[place] = (since, now())

    def _least(self, key: str, at: float) -> int:
        """The newest version whose change had ended at a time."""
        if self._losing:
            return 0
        times, versions = self._ended[key]
        place = bisect_right(times, at)
        return versions[place - 1] if place else 0

    def excused(self, at: float) -> bool:
        first = self.began + SETTLED_S
        return at < first or any(a <= at <= b + SETTLED_S for a, b in self.troubles)

    def read(self, key: str, value: object, started: float, *, own: bool) -> None:
        """Judges an answer; None is never wrong."""
        if value is None:
            return
        version = int(value.split("#")[1]) if isinstance(value, str) and "#" in value else -1
        if version < 0 or value != value_of(key, version):
            self.found.wrong(f"I1 {key}: {value!r:.80}")
        elif version > self.origin[key]:
            self.found.wrong(f"I1 {key}: {version} was never written")
        elif version < self._least(key, started) and own:
            self.found.wrong(f"P1 {key}: {version} and not {self._least(key, started)}")
        elif version < self._least(key, started - BOUND_S) and not self.excused(started):
            self.found.wrong(f"I4 {key}: {version} and not {self._least(key, started - BOUND_S)}")
