"""Warm a project up: load by the normal path what will be asked for, within a budget.

What changed is indexed first, since every answer depends on it; then the entries are loaded, a few
at a time, the most wanted first. When a budget is spent, or the caller leaves, all stops where it
is. What was done until then is in the cache and in the index, so that a second run finds it there
and goes on behind it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from querycache.clock import Clock
from querycache.errors import QueryCacheError, UsageError
from querycache.ports.origins import Mode, Question
from querycache.ports.tiers import L1

Tier = Literal["l1", "l2", "none"]
Tell = Callable[[int, int, str], None]
"""Takes progress: done, total, and what is being done."""

_AT_ONCE = 4
_LOOK_S = 0.02
_MOST_REASONS = 8


class Warmed(msgspec.Struct, frozen=True):
    """What was done.

    Attributes:
        loaded: Entries that were computed, or brought into memory from the shared tier.
        skipped: Entries that were where they are wanted already.
        failed: What could not be loaded; `reasons` says why, and how often.
        bytes: What L1 grew by.
        took_ms: Milliseconds.
        left: Entries that the budget did not reach.
        stopped: The budget that was spent, or "".
        indexed: Files that had changed and were looked at first.
    """

    loaded: int
    skipped: int
    failed: int
    bytes: int
    took_ms: float
    left: int = 0
    stopped: Literal["", "time", "bytes"] = ""
    indexed: int = 0
    reasons: Mapping[str, int] = {}


class Wanted(msgspec.Struct, frozen=True):
    """An entry to load: what to call it, and how to load it; tells which tier had it."""

    name: str
    load: Callable[[], Awaitable[Tier]]


class WarmUp:
    """The use case."""

    def __init__(self, l1: L1, clock: Clock) -> None:
        self._l1 = l1
        self._clock = clock

    async def __call__(
        self,
        wanted: Sequence[Wanted],
        catch_up: Callable[[Tell], Awaitable[None]],
        *,
        budget_s: float = 30.0,
        budget_bytes: float = float("inf"),
        lasting: bool = False,
        progress: Tell = lambda _done, _total, _what: None,
    ) -> Warmed:
        """Runs `catch_up`, which indexes what changed, and loads what is `wanted`. With `lasting`
        an entry is wanted in the shared tier, else in memory. A failure of one is counted.
        """
        run = _Run(wanted, progress, {"l1", "l2"} if lasting else {"l1"})
        started, before = self._clock.monotonic(), self._l1.info().bytes

        def spent() -> Literal["", "time", "bytes"]:
            if self._clock.monotonic() - started >= budget_s:
                return "time"
            return "bytes" if self._l1.info().bytes - before >= budget_bytes else ""

        stopped = spent()
        if not stopped:
            work = asyncio.ensure_future(run.whole(catch_up, spent))
            try:
                while not (work.done() or (stopped := spent())):
                    left = budget_s - (self._clock.monotonic() - started)
                    await asyncio.wait([work], timeout=min(_LOOK_S, left))
            finally:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
            if not work.cancelled():
                work.result()
        left = len(wanted) - run.ended
        return Warmed(
            loaded=run.loaded,
            skipped=run.skipped,
            failed=run.failed,
            bytes=max(0, self._l1.info().bytes - before),
            took_ms=(self._clock.monotonic() - started) * 1e3,
            left=left,
            stopped=(stopped or spent()) if left else "",
            indexed=run.indexed,
            reasons=dict(run.reasons.most_common(_MOST_REASONS)),
        )


class _Run:
    """One run: what it has done so far."""

    def __init__(self, wanted: Sequence[Wanted], progress: Tell, warm: set[Tier]) -> None:
        self.loaded = self.skipped = self.failed = self.ended = self.indexed = 0
        self.reasons: Counter[str] = Counter()
        self._wanted = wanted
        self._progress = progress
        self._warm = warm
        self._changed = 0

    async def whole(
        self, catch_up: Callable[[Tell], Awaitable[None]], spent: Callable[[], str]
    ) -> None:
        """All of it, while the budget lasts."""
        try:
            await catch_up(self._tell_indexed)
        except (QueryCacheError, OSError) as error:  # what is indexed can be warmed all the same
            self._fail(error)
        pending = iter(self._wanted)
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(self._load(pending, spent))

    async def _load(self, pending: Iterator[Wanted], spent: Callable[[], str]) -> None:
        for one in pending:
            if spent():
                return
            try:
                tier = await one.load()
            except QueryCacheError as error:
                self._fail(error)
            else:
                self.skipped += tier in self._warm
                self.loaded += tier not in self._warm
            self.ended += 1
            self._tell(one.name)

    def _fail(self, error: Exception) -> None:
        self.failed += 1
        self.reasons[f"{type(error).__name__}: {error}"] += 1

    def _tell_indexed(self, done: int, total: int, path: str) -> None:
        self.indexed, self._changed = done, total
        self._tell(path)

    def _tell(self, what: str) -> None:
        done, total = self.indexed + self.ended, self._changed + len(self._wanted)
        self._progress(done, total, what)


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question in a file, as a JSON object."""

    query: Annotated[str, msgspec.Meta(min_length=1, max_length=10_000)]
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10
    mode: Mode = "hybrid"
    language: str = ""
    path: str = ""


def questions(lines: Iterable[str]) -> list[Question]:
    """The questions of a file: one a line, as text, or as a JSON object with `query` and the
    filters of a search (`limit`, `mode`, `language`, `path`). Raises `UsageError`, which names the
    line.
    """
    found: list[Question] = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text.startswith("{"):
            found += [Question(text, None)] if text else []
            continue
        try:
            asked = msgspec.json.decode(text, type=_Line)
        except msgspec.DecodeError as error:
            raise UsageError(
                f"line {number} of the questions: {error}",
                remedy='write {"query": "..."}, with limit, mode, language or path if need be',
            ) from error
        query, language, path = asked.query.strip(), asked.language.strip(), asked.path.strip()
        found.append(Question(query, None, asked.mode, asked.limit, language.lower(), path))
    return found
