"""Caches under load over a real Redis while it fails: Apps with a home each stand for processes.

What is checked in every trial: answers (see `fault_judge`); nothing raises; an operation takes no
longer than the deadline; all is well in time after the fault; no task, descriptor or connection is
left over; no secret is logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import MappingProxyType

import pytest
from _pytest.mark.structures import ParameterSet
from tests.live.fault_judge import KEYS, Judge, now, value_of
from tests.live.fault_logs import Logs, logged
from tests.live.fault_report import Findings, findings
from tests.redis_kit import RedisServer, until

from querycache.assembly import App
from querycache.config import load_config

SECRET = "canary-1f0c"  # noqa: S105 -- what no log may hold
DEADLINE_S = 0.25
SLACK_S = 0.5
"""For a busy machine: what an operation may take beyond its deadline."""

LEASE_S = 2.0
"""What a load waits for another process whose lease outlived a fault."""

WORKERS = 6


def sizes(small: int, full: int) -> list[int | ParameterSet]:
    """How many trials, in the suite and in a soak."""
    return [small, soaked(full)]


def soaked(*values: object, name: str | None = None) -> ParameterSet:
    """A case for a soak only."""
    marks = [pytest.mark.soak, pytest.mark.timeout(1200)]
    return pytest.param(*values, marks=marks, id=name)


def tag_of(key: str) -> str:
    return f"tag-{key}"


class Stage:
    """The Apps, their load, and what is found out about them."""

    def __init__(self, apps: Sequence[App], found: Findings, logs: Logs) -> None:
        self.apps = apps
        self.found = found
        self.judge = Judge(found)
        self.random = random.Random(found.seed)
        self.limit_s = DEADLINE_S + SLACK_S
        self.down: list[float] = []
        self.logs = logs
        self.is_down = False
        self.leases_outlive = True  # the fault
        self._problems = ""
        self._shown = False
        self._probe = 0
        self._stop = False
        self._go = asyncio.Event()
        self._go.set()

    # --- load ----------------------------------------------------------------------------------

    async def _timed(self, what: str, work: Awaitable[object]) -> object:
        started = now()
        try:
            return await work
        except Exception as error:  # noqa: BLE001 -- none may come out
            self.found.wrong(f"I2 {what}: {error!r}")
            return None
        finally:
            self._took(what, started)

    def _took(self, what: str, started: float) -> None:
        took = now() - started
        if took > self.limit_s and what == "get_or_compute" and self.judge.excused(started):
            self.found.most("longest_wait_for_a_lease_ms", took * 1000)
            took -= LEASE_S if self.leases_outlive else 0.0
        self.found.took(max(0.0, took), what)
        if self.is_down:
            self.down.append(took)
        if took > self.limit_s:
            self.found.wrong(f"I3 {what} took {took:.3f} s")

    def _load(self, key: str) -> Callable[[], Awaitable[str]]:
        async def load() -> str:
            version = self.judge.origin[key]
            await asyncio.sleep(self.random.random() * 0.002)
            return value_of(key, version)

        return load

    async def _read(self, place: int, key: str) -> None:
        remember, started = self.apps[place].remember, now()
        if self.random.random() < 0.8:
            asked = remember.get_or_compute(key, self._load(key), tags=[tag_of(key)])
            value = await self._timed("get_or_compute", asked)
        else:
            value = await self._timed("get", remember.get(key))
        self.judge.read(key, value, started, own=KEYS.index(key) % len(self.apps) == place)
        if self.found.violations and not self._shown:
            self._shown = True
            self._show(key)

    def _show(self, key: str) -> None:
        """What led to the first wrong answer."""
        for place, app in enumerate(self.apps):
            for at, event in app.ring.events_of(app.remember.name(key), [tag_of(key)])[-20:]:
                sys.stderr.write(f"{place} {at - app.clock.wall():8.4f} {event}\n")

    async def _change(self, place: int, key: str) -> None:
        app = self.apps[place]
        version = self.judge.origin[key] = self.judge.origin[key] + 1
        dice = self.random.random()
        if dice < 0.6:
            work = app.remember.set(key, value_of(key, version), tags=[tag_of(key)])
            await self._timed("set", work)
        elif dice < 0.8:
            await self._timed("delete", app.remember.delete(key))
        else:
            await self._timed("invalidate", app.invalidate.tag(tag_of(key)))
        self.judge.changed(key, version)

    async def _work(self, place: int, keys: Sequence[str]) -> None:
        while not self._stop:
            await self._go.wait()
            if self.random.random() < 0.15:
                await self._change(place, self.random.choice(keys))
            else:
                await self._read(place, self.random.choice(KEYS))
            await asyncio.sleep(0.001 + self.random.random() * 0.003)

    @asynccontextmanager
    async def loaded(self) -> AsyncGenerator[None]:
        """Inside, the workers run."""
        self._stop = False
        own = [KEYS[place :: len(self.apps)] for place in range(len(self.apps))]
        async with asyncio.TaskGroup() as group:
            for place, keys in enumerate(own):
                for worker in range(WORKERS):
                    group.create_task(self._work(place, keys[worker::WORKERS]))
            try:
                yield
            finally:
                self._stop = True
                self._go.set()

    def pause(self) -> None:
        """No operation but the test's own until `resume`, or the end."""
        self._go.clear()

    def resume(self) -> None:
        self._go.set()

    # --- trials --------------------------------------------------------------------------------

    @asynccontextmanager
    async def outage(self, *, judged_after_s: float = 0.6) -> AsyncGenerator[None]:
        """A fault that takes Redis away; what the cache costs meanwhile is looked at once it had
        time to notice.
        """
        with self.judge.trouble():
            later = asyncio.get_running_loop().call_later(
                judged_after_s, setattr, self, "is_down", True
            )
            try:
                yield
            finally:
                later.cancel()
                self.is_down = False

    async def healed(self, within_s: float, since: float | None = None) -> None:
        """Waits until a fresh key goes from each App to each other through Redis, and all hear of
        changes; counts a trial.
        """
        since = now() if since is None else since

        async def works() -> bool:
            for writer in self.apps:
                self._probe += 1
                key = f"probe{self._probe}"
                await writer.remember.set(key, self._probe, ttl=60)
                await writer.core.flush()
                for reader in self.apps:
                    answer = await reader.remember.find(key)
                    if reader.core.generations.deaf:
                        return False
                    if reader is not writer and (answer.value, answer.tier) != (self._probe, "l2"):
                        return False
            return True

        await until(works, "the caches share Redis again", within_s + 10)
        took = now() - since
        self.found.healed(took)
        self.found.trials += 1
        if took > within_s:
            self.found.wrong(f"I6 healed after {took:.2f} s, {within_s} s are allowed")

    async def said(
        self, status: str, *, connected: bool, why: str = "", within_s: float = 1.5
    ) -> str:
        """Waits until all Apps say how they are, and the first of them `why`; what it said."""

        async def so() -> bool:
            healths = [await app.status.health() for app in self.apps]
            self.logs.add(repr(healths))
            right = all((h.status, h.redis_connected) == (status, connected) for h in healths)
            self._problems = "; ".join(healths[0].problems)
            return right and why in self._problems

        wanted = f"health says {status}, redis_connected {connected}, {why!r}"
        try:
            await until(so, wanted, within_s)
        except AssertionError:
            self.found.wrong(f"P2 not within {within_s} s: {wanted}; last: {self._problems}")
        return self._problems

    def looks(self) -> None:
        """Checks what was gathered over all trials."""
        if self.down:
            median = sorted(self.down)[len(self.down) // 2]
            self.found.most("median_ms_while_down", median * 1000)
        if SECRET in self.logs.text:
            self.found.wrong(f"I7 {self.logs.around(SECRET)}")


@asynccontextmanager
async def cache_at(home: Path, **variables: str) -> AsyncGenerator[App]:
    """An App that keeps house."""
    environ = {"QUERYCACHE_HOME": str(home), "HOME": str(home), **variables}
    app = App(load_config(environ, cwd=home.parent).config, door="test")
    try:
        async with app.running():
            yield app
    finally:
        await app.close()


def held() -> tuple[int, int]:
    """How many tasks and open files there are."""
    gc.collect()
    return len(asyncio.all_tasks()), len(list(Path("/proc/self/fd").iterdir()))


@asynccontextmanager
async def stage(
    found: Findings,
    folder: Path,
    *settings: Mapping[str, str],
    connected: bool = True,
    spare: int = 0,
) -> AsyncGenerator[Stage]:
    """An App for each of `settings`, connected; afterwards nothing is left over but `spare` files
    that are opened late.
    """
    async with AsyncExitStack() as stack:
        logs = stack.enter_context(logged())
        apps = [
            await stack.enter_async_context(cache_at(folder / f"home{n}", **variables))
            for n, variables in enumerate(settings)
        ]
        made = Stage(apps, found, logs)
        if connected:
            await made.healed(5.0)
            found.trials, found.heal_s = 0, None
        before = held()
        try:
            yield made
        finally:
            with contextlib.suppress(AssertionError):
                await until(lambda: _as_before(before), "nothing is left over", 10)
            after = held()
            if abs(after[0] - before[0]) > 2 or after[1] > before[1] + 2 + spare:
                found.wrong(f"I6 tasks and files before {before}, after {after}")
            made.looks()


async def _as_before(before: tuple[int, int]) -> bool:
    after = held()
    return abs(after[0] - before[0]) <= 1 and after[1] <= before[1]


@asynccontextmanager
async def under_load(  # noqa: PLR0913 -- all but the first by name, or of one kind
    fault: str,
    seed: int,
    folder: Path,
    *urls: str,
    what: str = "",
    connected: bool = True,
    spare: int = 0,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> AsyncGenerator[Stage]:
    """A loaded App for each of `urls`, with further settings; tells what was found."""
    with findings(fault, seed, what) as found:
        settings = [{"REDIS_URL": url, **variables} for url in urls]
        async with (
            stage(found, folder, *settings, connected=connected, spare=spare) as made,
            made.loaded(),
        ):
            await asyncio.sleep(0.1)
            yield made


def url_of(to: RedisServer | int) -> str:
    """With the password that no log may hold."""
    port = to if isinstance(to, int) else to.port
    return f"redis://:{SECRET}@127.0.0.1:{port}/0"


LOCKED = ("--requirepass", SECRET)
"""Options of a server."""
