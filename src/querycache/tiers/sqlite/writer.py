"""The one thread of a process that writes to the embedded store: many operations, one
transaction.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeVar

from querycache.clock import Clock
from querycache.errors import TierError
from querycache.tiers.sqlite.committer import Committer, Run
from querycache.tiers.sqlite.connection import (
    FAILURES,
    BusyError,
    DamagedError,
    FailingError,
    FullError,
    NotOpenError,
)
from querycache.tiers.sqlite.store import Store
from querycache.tiers.sqlite.transaction import Transaction

T = TypeVar("T")

_BATCH: Final = 64  # operations in a transaction
_BATCH_BYTES: Final = 4 * 1024 * 1024
_BACKLOG_BYTES: Final = 64 * 1024 * 1024  # entries that may wait before writes are refused
_TICK_S: Final = 1.0  # how soon an idle process notices that its files were replaced
_FATAL: Final = (DamagedError, FailingError, FullError)


class _Operation(NamedTuple):
    run: Run
    weight: int = 0  # bytes
    invalidates: bool = False  # makes something untrue: must not be given up lightly
    loop: asyncio.AbstractEventLoop | None = None
    future: asyncio.Future[Any] | None = None


class _Outcome(NamedTuple):
    operation: _Operation
    result: object
    error: TierError | None = None


class Writer:
    """Queues operations of any thread and event loop; answers after their commit."""

    def __init__(
        self, store: Store, *, clock: Clock, max_bytes: int, deadline_s: float | None = None
    ) -> None:
        self._store = store
        self._deadline_s = deadline_s
        self._clock = clock
        self._max_bytes = max_bytes
        self._begin()
        self._start()

    async def submit(
        self,
        run: Callable[[Transaction], T],
        *,
        weight: int = 0,
        invalidates: bool = False,
        patient: bool = False,
    ) -> T:
        """Runs an operation in a transaction; returns what it returned, once that is committed.

        Cancelled while it waits, it is not run, unless it invalidates. Raises `TierError`, also
        past the deadline if not `patient`: what is being committed then may still be.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._put(_Operation(run, weight, invalidates, loop, future))
        try:
            async with asyncio.timeout(None if patient else self._deadline_s):
                return await future
        except TimeoutError:
            raise TierError(
                f"the embedded store took longer than {self._deadline_s:g} s",
                remedy="Look for a stopped process that uses the cache, or a slow disk.",
            ) from None

    def post(self, run: Run) -> None:
        """Runs an operation some time; nobody hears of its end."""
        with suppress(TierError):
            self._put(_Operation(run))

    def poke(self) -> None:
        """Has the thread look soon at whether the files and the epoch's words are in order."""
        if not self._poked:
            self._poked = True
            self.post(_look)

    async def close(self) -> None:
        """Commits what is queued, then ends the thread."""
        with self._lock:
            thread = self._thread
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        if thread is not None:
            await asyncio.to_thread(thread.join)

    def after_fork(self) -> None:
        """Begins anew in a child: what was queued is its parent's."""
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[_Operation | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._backlog = 0  # bytes of entries that wait
        self._poked = self._closed = False
        self._committer = Committer(self._store, clock=self._clock, max_bytes=self._max_bytes)

    def _put(self, operation: _Operation) -> None:
        with self._lock:
            if self._closed:
                raise TierError("the embedded store is closed")
            if operation.weight and self._backlog > _BACKLOG_BYTES:
                raise TierError("the embedded store does not keep up with its writes")
            if operation.weight and self._committer.clogged:
                raise TierError(
                    "the log of the embedded store can't be emptied: a reader stands still",
                    remedy="Look for a stopped process that uses the cache.",
                )
            self._backlog += operation.weight
            self._queue.put(operation)
        self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="querycache-l2", daemon=True
                )
                self._thread.start()

    def _work(self) -> None:
        batch: list[_Operation] = []
        more = True
        try:
            while more:
                batch, more = self._collect()
                self._poked = False
                _answer(self._settle(batch or [_Operation(_look)]))
                batch = []
                self._committer.checkpoint()
        finally:
            self._end(batch)

    def _collect(self) -> tuple[list[_Operation], bool]:
        """The next operations (none: a tick), and whether more may come."""
        batch: list[_Operation] = []
        weight = 0
        with suppress(queue.Empty):
            operation = self._queue.get(timeout=_TICK_S)
            while operation is not None:
                batch.append(operation)
                weight += operation.weight
                if len(batch) == _BATCH or weight > _BATCH_BYTES:
                    break
                operation = self._queue.get_nowait()
            else:
                return batch, False
        with self._lock:
            self._backlog -= weight
        return batch, True

    def _settle(self, batch: Sequence[_Operation]) -> list[_Outcome]:
        """Runs a batch in one transaction, or after a failure and its remedy each for itself."""
        wanted = [
            operation
            for operation in batch
            if operation.invalidates or operation.future is None or not operation.future.done()
        ]
        if all(operation.run is _look for operation in wanted):
            self._committer.look_after()
            return []
        try:
            return self._commit(wanted)
        except FAILURES as error:
            found = self._store.note(error)
        if isinstance(found, (BusyError, NotOpenError)):
            return [_Outcome(operation, None, found) for operation in wanted]
        if isinstance(found, FullError):
            self._committer.make_room()
        return [self._settle_one(operation) for operation in wanted]

    def _settle_one(self, operation: _Operation) -> _Outcome:
        try:
            return self._commit([operation])[0]
        except FAILURES as error:
            found = self._store.note(error)
        if operation.invalidates and isinstance(found, _FATAL):
            # What can't be marked untrue must not stay: an empty store holds nothing untrue.
            try:
                self._store.discard()
                return self._commit([operation])[0]
            except FAILURES as error:
                found = self._store.note(error)
        return _Outcome(operation, None, found)

    def _commit(self, operations: Sequence[_Operation]) -> list[_Outcome]:
        results = self._committer.commit([operation.run for operation in operations])
        return list(map(_Outcome, operations, results))

    def _end(self, left: list[_Operation]) -> None:
        """Nobody must wait for a thread that has ended; `left` is what it was about to do."""
        with self._lock:
            self._closed = True
            with suppress(queue.Empty):
                while True:
                    operation = self._queue.get_nowait()
                    left += [] if operation is None else [operation]
        closed = TierError("the embedded store is closed")
        _answer([_Outcome(operation, None, closed) for operation in left])
        self._committer.close()


def _answer(outcomes: Sequence[_Outcome]) -> None:
    """Resolves futures in their loops, with one wake-up for each loop."""
    loops: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
    for outcome in outcomes:
        if outcome.operation.loop is not None:
            loops.setdefault(outcome.operation.loop, []).append(outcome)
    for loop, mine in loops.items():
        with suppress(RuntimeError):  # the loop was closed: nobody waits
            loop.call_soon_threadsafe(_resolve, mine)


def _resolve(outcomes: Sequence[_Outcome]) -> None:
    for operation, result, error in outcomes:
        future = operation.future
        if future is None or future.done():
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)


def _look(transaction: Transaction) -> None:
    del transaction
