"""A deadline and a circuit breaker around any L2 that brings none.

Every operation ends within the deadline; while the breaker is open it fails at once, and a probe
in the background finds out whether the tier is back. Whatever the tier raises leaves as a
`TierError`. Deadlines are kept by one sweep for each event loop, so that an operation costs no
timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

from querycache.clock import Clock
from querycache.errors import TierError
from querycache.ports.tiers import L2, L2Info, Listing, Read, Write
from querycache.tiers.breaker import Breaker, Failure
from querycache.tiers.redis.link import DeadlineError, RefusedError, UnreachableError
from querycache.values import Stamp

Answer = TypeVar("Answer")

_PATIENCE_S: Final = 30.0


class GuardedTier:
    """An L2 behind a deadline and a breaker. Safe to use from several event loops."""

    def __init__(
        self,
        l2: L2,
        clock: Clock,
        *,
        deadline_s: float = 0.25,
        patience_s: float = _PATIENCE_S,
        breaker: Breaker | None = None,
    ) -> None:
        """`deadline_s` bounds each operation but `sweep` and `purge`, which `patience_s` bounds;
        `breaker` decides when the tier is given up and tried again.
        """
        self.name = l2.name
        self._l2 = l2
        self._clock = clock
        self._deadline_s = deadline_s
        self._patience_s = patience_s
        self._breaker = breaker or Breaker(clock)
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = WeakKeyDictionary()

    async def read(self, keys: Sequence[str], *, fenced: bool = True) -> list[Read]:
        return await self._ask("read", lambda: self._l2.read(keys, fenced=fenced))

    def witnessed(self, key: str) -> int | None:
        return self._l2.witnessed(key)

    async def write(self, writes: Sequence[Write]) -> list[bool]:
        return await self._ask("write", lambda: self._l2.write(writes))

    async def remove(self, keys: Sequence[str]) -> int:
        return await self._ask("remove", lambda: self._l2.remove(keys))

    async def stamps(self, tags: Sequence[str]) -> dict[str, Stamp]:
        return await self._ask("stamps", lambda: self._l2.stamps(tags))

    async def bump(self, tags: Sequence[str]) -> dict[str, Stamp]:
        return await self._ask("bump", lambda: self._l2.bump(tags))

    async def lease(self, key: str, seconds: float) -> str | None:
        return await self._ask("lease", lambda: self._l2.lease(key, seconds))

    async def renew(self, key: str, token: str, seconds: float) -> bool:
        return await self._ask("renew", lambda: self._l2.renew(key, token, seconds))

    async def release(self, key: str, token: str) -> None:
        await self._ask("release", lambda: self._l2.release(key, token))

    async def secret(self, name: str, proposed: bytes | None = None) -> bytes | None:
        return await self._ask("secret", lambda: self._l2.secret(name, proposed))

    async def drop_secret(self, name: str) -> bool:
        return await self._ask("drop_secret", lambda: self._l2.drop_secret(name))

    async def sweep(self, limit: int = 1000) -> int:
        return await self._ask("sweep", lambda: self._l2.sweep(limit), patient=True)

    async def purge(self, prefix: str) -> int:
        return await self._ask("purge", lambda: self._l2.purge(prefix), patient=True)

    async def scan(self, prefix: str = "") -> AsyncIterator[Listing]:
        """The deadline bounds each step."""
        rows = self._l2.scan(prefix)
        try:
            while (row := await self._ask("scan", lambda: anext(rows, None))) is not None:
                yield row
        finally:
            if isinstance(rows, AsyncGenerator):
                await rows.aclose()

    async def post(self, name: str, data: bytes, seconds: float) -> None:
        await self._ask("post", lambda: self._l2.post(name, data, seconds))

    async def posts(self) -> dict[str, bytes]:
        return await self._ask("posts", self._l2.posts)

    async def info(self) -> L2Info:
        """Looks now, also while the breaker is open: what answers closes it."""
        try:
            info = await self._bounded("info", self._l2.info)
        except TierError as error:
            return L2Info(self.name, connected=False, error=str(error))
        if info.connected and self._breaker.open:
            self._breaker.probed(None)
        return info

    async def close(self) -> None:
        """Closes the tier, and ends what runs behind in this loop."""
        with suppress(TierError):
            await self._bounded("close", self._l2.close)
        await self._here().end()

    async def _ask(
        self, operation: str, work: Callable[[], Awaitable[Answer]], *, patient: bool = False
    ) -> Answer:
        if self._breaker.open:
            self._probe_behind()
            raise UnreachableError(f"{self.name} does not answer, and is tried again behind")
        return await self._bounded(operation, work, patient=patient)

    async def _bounded(
        self, operation: str, work: Callable[[], Awaitable[Answer]], *, patient: bool = False
    ) -> Answer:
        seconds = self._patience_s if patient else self._deadline_s
        try:
            async with self._here().within(seconds):
                return await work()
        except RefusedError:  # an answer: it lives
            raise
        except TimeoutError as error:
            self._breaker.failed("soft")
            raise DeadlineError(
                f"{operation}: no answer of {self.name} within {seconds} s"
            ) from error
        except (OSError, EOFError) as error:  # `TierError` is an `OSError`
            self._breaker.failed(_kind(error))
            if isinstance(error, TierError):
                raise
            raise UnreachableError(f"{operation}: {self.name} failed: {error}") from error
        except Exception as error:
            self._breaker.failed("soft")
            name = type(error).__name__
            raise TierError(f"{operation}: {self.name} failed: {name}: {error}") from error

    def _probe_behind(self) -> None:
        if self._breaker.probe():
            self._here().start(self._probe())

    async def _probe(self) -> None:
        failure: Failure | None = "soft"
        try:
            async with self._here().within(self._deadline_s):
                failure = None if (await self._l2.info()).connected else "hard"
        except Exception as error:  # noqa: BLE001 -- whatever it is: the tier is not back
            failure = _kind(error)
        finally:
            self._breaker.probed(failure)

    def _here(self) -> _Loop:
        loop = asyncio.get_running_loop()
        kept = self._loops.get(loop)
        if kept is None:
            kept = self._loops[loop] = _Loop(self._clock)
        return kept


class _Loop:
    """What one event loop waits for, and the tasks that see to it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._due: dict[float, dict[asyncio.Timeout, float]] = {}
        """By length, so that each is in the order in which its members fall due."""
        self._swept: set[float] = set()

    @asynccontextmanager
    async def within(self, seconds: float) -> AsyncGenerator[None]:
        """Raises `TimeoutError` where the block takes longer."""
        due = self._due.setdefault(seconds, {})
        if seconds not in self._swept:
            self._swept.add(seconds)
            self.start(self._sweep(seconds, due))
        async with asyncio.timeout(None) as scope:
            due[scope] = self._clock.monotonic() + seconds
            try:
                yield
            finally:
                due.pop(scope, None)

    def start(self, work: Coroutine[None, None, None]) -> None:
        """Runs `work` behind."""
        task = asyncio.get_running_loop().create_task(work, name="guarded tier")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        """Ends what runs behind."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _sweep(self, seconds: float, due: dict[asyncio.Timeout, float]) -> None:
        """Ends what has fallen due, until nothing waits."""
        loop = asyncio.get_running_loop()
        try:
            await self._clock.sleep(seconds)  # nothing falls due earlier
            while due:
                scope, at = next(iter(due.items()))
                left = at - self._clock.monotonic()
                if left > 0:
                    await self._clock.sleep(left)
                else:
                    del due[scope]
                    scope.reschedule(loop.time())
        finally:
            self._swept.discard(seconds)


def _kind(error: Exception) -> Failure:
    """A time-out says that the tier is slow, anything else of a connection that it is gone."""
    return "hard" if isinstance(error, OSError) and not _late(error) else "soft"


def _late(error: OSError) -> bool:
    return isinstance(error, TimeoutError | DeadlineError)
