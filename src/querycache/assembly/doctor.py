"""What the doctor looks with, over the parts of one process and what others told."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import msgspec

from querycache.assembly.alerting import thresholds
from querycache.assembly.comparing import everywhere
from querycache.assembly.sealing import key_findings
from querycache.config import Config
from querycache.config.lenient import load_leniently
from querycache.errors import ConfigError, NotAvailableError
from querycache.events import Unreadable
from querycache.observe.machine import disk, refusal, stopped
from querycache.observe.memory_pressure import ProcessMemory
from querycache.observe.registry import Published
from querycache.observe.ring import events_from
from querycache.ports.findings import Finding
from querycache.ports.probing import Redis
from querycache.usecases.check_coherency import Coherency
from querycache.usecases.diagnose import Diagnose, Look
from querycache.usecases.diagnose.figures import (
    Compared,
    ConfFile,
    Counts,
    Denied,
    Encryption,
    Indexed,
    Machine,
    Memory,
    Process,
    Settings,
    Store,
    Watching,
)

if TYPE_CHECKING:
    from querycache.assembly.operations import Operations
    from querycache.usecases.show_status import KindCounts

T = TypeVar("T")

_COMPARING_S = 4.0
_HOME_S = 3.0
_LAG_S = 1.2  # a touch is sent each half second
_LOOK_S = 0.05
_SETTLES_S = 1.5  # an edit is indexed within a second
_RECENT_S = 3600.0
_EVENTS = 2000
_CONF_FILES = ("deploy/redis/redis.conf", "redis.conf")
_MOST_BYTES = 1024 * 1024


class Doctor:
    """The looks of one process."""

    def __init__(self, app: Operations, config: Config, redis_conf: str) -> None:
        """`config` are the settings that are asked about, where they are not the App's;
        `redis_conf` a file, "" for the one that lies where the repository has it.
        """
        self._app = app
        self._config = config
        self._redis_conf = redis_conf
        self._probing: asyncio.Future[Redis] | None = None
        self._trying: asyncio.Future[str] | None = None

    def diagnose(self) -> Diagnose:
        """The use case over these looks."""
        looks: dict[str, Look] = {
            "store": self._store,
            "processes": self._processes,
            "compared": self._compared,
            "projects": self._projects,
            "encryption": partial(asyncio.to_thread, self._encryption),
            "denied": partial(asyncio.to_thread, self._denied),
            "settings": partial(asyncio.to_thread, _settings),
            "machine": self._machine,
            "redis_conf": partial(asyncio.to_thread, self._conf_file),
        }
        if self._app.config.l2_backend == "redis":
            looks["redis"] = self._redis
        return Diagnose(
            looks,
            thresholds(self._config),
            self._app.clock,
            ttl_s=self._config.core.default_ttl_s,
        )

    async def _redis(self) -> Redis:
        """The servers; looked at once, however many ask."""
        if self._probing is None:
            from querycache.assembly.redis import address
            from querycache.tiers.redis.probing import probe

            looking = probe(address(self._app.config), self._app.clock)
            self._probing = asyncio.ensure_future(looking)
        return await self._probing

    async def _store(self) -> Store:
        app = self._app
        backend = app.config.l2_backend
        if backend == "redis" and not (await self._redis()).usable:
            return Store(backend, connected=False)
        if (refused := await self._refused()) and self._hangs:
            return Store(backend, connected=False, error=refused)
        try:
            info = await app.core.l2.info()
        except ConfigError as error:  # a file of TLS
            return Store(backend, connected=False, error=str(error))
        until = app.clock.monotonic() + _LAG_S
        while backend == "redis" and info.lag_ms is None:
            if app.clock.monotonic() > until:
                break
            await app.clock.sleep(_LOOK_S)
            info = await app.core.l2.info()
        return Store(
            info.backend,
            info.where,
            info.connected,
            info.ping_ms,
            info.entries,
            info.error,
            info.lag_ms,
        )

    async def _processes(self) -> tuple[Process, ...]:
        app, now = self._app, self._app.clock.wall()
        told = await self._living()
        documents = {one.pid: (f"{one.door} {one.pid}", one.document) for one in told}
        made = app.__dict__
        pid = os.getpid()
        snapshot = app.status.snapshot() if "core" in made else None
        worked = snapshot is not None and any(map(_worked, snapshot.kinds.values()))
        if pid in documents or worked or "memory" in made:  # which is made to watch over it
            own = {
                **app.told(),
                "snapshot": msgspec.to_builtins(snapshot),
                "events": app.ring.rows()[-_EVENTS:],
            }
            documents[pid] = (f"{app.door} {pid}", own)
        return tuple(
            _process(who, document, now - _RECENT_S, stopped=stopped(number))
            for number, (who, document) in documents.items()
        )

    async def _compared(self) -> Compared:
        app = self._app
        living = await self._living()
        found: list[Coherency] = []
        mine = "core" in app.__dict__ and bool(app.l1.entries)
        if mine and os.getpid() not in {one.pid for one in living}:
            found.append(await app.check_coherency())
        silent = [f"{one.door} {one.pid}" for one in living if stopped(one.pid)]
        if len(silent) < len(living) and not await self._refused():
            answers = await everywhere(app.registry, app.clock, _COMPARING_S)
            found += [one.found for one in answers.processes if one.found is not None]
            silent = [f"{o.door} {o.pid}" for o in answers.processes if o.found is None]
        differences: Counter[str] = Counter()
        for one in found:
            differences.update(one.differences)
        return Compared(
            processes=len(found),
            silent=tuple(silent),
            entries=sum(one.checked_keys for one in found),
            keys=tuple(key for one in found for key in one.mismatched_keys),
            differences=differences,
        )

    async def _living(self) -> list[Published]:
        """The living processes; none where the home can't be read, which is told elsewhere."""
        refused = await self._refused()
        if self._hangs:
            return []
        try:
            return await asyncio.to_thread(self._app.registry.living)
        except OSError:
            if not refused:
                raise
            return []

    async def _refused(self) -> str:
        """Why no file can be made in the home, tried once, however many ask; "" where it can."""
        home = self._app.config.home
        if self._trying is None:
            self._trying = asyncio.ensure_future(asyncio.to_thread(refusal, home))
        await asyncio.wait([self._trying], timeout=_HOME_S)
        return f"{home}: no answer within {_HOME_S:g} s" if self._hangs else self._trying.result()

    @property
    def _hangs(self) -> bool:
        """Whether the home's disk has not answered: who touched it now would stop all the rest."""
        return self._trying is not None and not self._trying.done()

    async def _projects(self) -> tuple[Indexed, ...]:
        await self._refused()
        if self._hangs:
            return ()
        found = await self._indexed()
        if any(one.stale_files and one.held for one in found):  # it may be on its way
            await self._app.clock.sleep(_SETTLES_S)
            found = await self._indexed()
        return found

    async def _indexed(self) -> tuple[Indexed, ...]:
        app = self._app
        try:
            listed = await app.list_projects()
        except NotAvailableError:  # the home is no folder, which is told elsewhere
            return ()
        found: list[Indexed] = []
        for one in listed:
            lock = None
            if one.stale_files:
                lock = await asyncio.to_thread(app.indexes.try_lock, one.name, "watch")
            held = bool(one.stale_files) and lock is None
            if lock is not None:
                lock.release()
            found.append(Indexed(one.name, one.root, one.stale_files, held))
        return tuple(found)

    def _encryption(self) -> Encryption:
        found = key_findings(self._config)
        return Encryption(tuple(sorted(self._config.sealed_kinds)), tuple(found))

    def _denied(self) -> Denied:
        window_s = self._config.safety.failed_access_window_s
        lines = self._app.audit.lines(self._app.clock.wall() - window_s)
        denied = [line for line in lines if line.outcome == "denied"]
        last = ""
        if denied:
            line = denied[-1]
            last = f"{line.who} was refused {line.what} of project {line.project or '-'}"
        log = self._app.config.data_home / "audit.jsonl"
        return Denied(len(denied), window_s, last, str(log))

    async def _machine(self) -> Machine:
        home = self._app.config.home
        refused = await self._refused()
        free, total = None, 0
        if not self._hangs:
            free, total = await asyncio.to_thread(disk, home) or (None, 0)
        reading = await asyncio.to_thread(ProcessMemory().read)
        memory = Memory(reading.used, reading.limit, reading.source, reading.rss)
        return Machine(memory, str(home), refused, free, total)

    def _conf_file(self) -> ConfFile:
        named = [self._redis_conf] if self._redis_conf else _CONF_FILES
        for path in map(Path, named):
            if self._redis_conf or path.is_file():
                return read_conf(path)
        return ConfFile()


def read_conf(path: Path) -> ConfFile:
    """A redis.conf, or why it can't be read."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES)
    except OSError as error:
        return ConfFile(str(path), error=f"{path}: {error.strerror}")
    return ConfFile(str(path), data.decode("utf-8", "replace"))


def patient(config: Config) -> Config:
    """The same settings without encryption, where its keys can't be used: no App starts so."""
    if not key_findings(config):
        return config
    kinds = {
        kind: msgspec.structs.replace(settings, encryption=None)
        for kind, settings in config.kinds.items()
    }
    safety = msgspec.structs.replace(config.safety, encryption_enabled=False)
    return msgspec.structs.replace(config, kinds=kinds, safety=safety)


def _worked(counts: KindCounts) -> bool:
    """Whether a process did anything with a kind."""
    return bool(counts.l1_hits or counts.l2_hits or counts.misses or counts.sets)


def _settings() -> Settings:
    """The settings as a process that started now would read them."""
    try:
        loaded, problem, remedy = load_leniently()
    except ConfigError as error:
        return Settings((str(error),), error.remedy)
    unknown = [one for one in loaded.warnings if "is not a setting" in one]
    return Settings((problem,) if problem else (), remedy, tuple(unknown))


def _process(who: str, document: Mapping[str, object], since: float, *, stopped: bool) -> Process:
    memory = _read(document.get("memory"), dict[str, object], {})
    fields = {"used": "used_bytes", "limit": "limit_bytes", "rss": "rss_bytes", "source": "source"}
    named = {name: memory[field] for name, field in fields.items() if field in memory}
    rows = _read(document.get("events"), list[object], cast("list[object]", []))
    return Process(
        who,
        _read(document.get("snapshot"), Counts, Counts()),
        stopped=stopped,
        memory=_read(named, Memory, Memory()) if named else None,
        leaks=_read(document.get("leaks"), tuple[Finding, ...], ()),
        watching=_read(document.get("watching"), tuple[Watching, ...], ()),
        damaged=_damaged(rows, since),
    )


def _damaged(rows: Sequence[object], since: float) -> Mapping[str, int]:
    suspects = [row for row in rows if Unreadable.__name__ in str(row)]  # most are hits
    return Counter(
        event.reason
        for at, event in events_from(suspects)
        if isinstance(event, Unreadable) and at >= since
    )


def _read(value: object, type_: type[T], otherwise: T) -> T:
    """What another process told, if it is of this shape."""
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError:  # nothing, or of another version
        return otherwise
