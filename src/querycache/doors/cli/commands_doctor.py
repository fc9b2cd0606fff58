"""Commands that find out what is wrong: doctor, report, and the check of a redis.conf."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

import typer

from querycache.doors.cli import screen
from querycache.doors.cli.options import Json, examples
from querycache.doors.cli.running import FAILED
from querycache.errors import QueryCacheError, UsageError

if TYPE_CHECKING:
    from querycache.assembly import App
    from querycache.config import Config, Row
    from querycache.ports.administration import Server
    from querycache.usecases.diagnose import Diagnosis
    from querycache.usecases.list_keys import Pattern
    from querycache.usecases.show_status import Health

T = TypeVar("T")

_PANEL = "Cache"
_KEYS_S = 10.0
_VERSIONED = ("querycache", "redis", "hiredis", "apsw", "msgspec", "cryptography", "mcp")


def add_to(app: typer.Typer) -> None:
    """Adds these commands."""
    app.command(
        epilog=examples("doctor", "doctor --verbose", "doctor --redis-conf /etc/redis/redis.conf"),
        rich_help_panel=_PANEL,
    )(doctor)
    app.command(epilog=examples("report > report.txt"), rich_help_panel=_PANEL)(report)


def doctor(
    *,
    redis_conf: Annotated[
        Path | None,
        typer.Option(
            "--redis-conf",
            metavar="FILE",
            help="Look at this redis.conf, instead of deploy/redis/redis.conf if there is one.",
        ),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", metavar="", help="Show all that each check saw.")
    ] = False,
    json: Json = False,
) -> None:
    """Find out what is wrong, and say what to do about it.

    Runs every check of the troubleshooting guide in its order, in ten seconds at most. The exit
    status is 1 where there is a warning or an error.
    """

    async def work(app: App, config: Config) -> Diagnosis:
        return await _diagnosed(app, config, redis_conf)

    found = _act(work)
    if json:
        screen.answer(found)
    else:
        from querycache.doors.cli import diagnosis

        screen.out().print(diagnosis.checks(found.checks, verbose=verbose))
        screen.out().print()
        screen.out().print(diagnosis.findings(found), soft_wrap=True)
    raise typer.Exit(0 if found.well else FAILED)


class Report(NamedTuple):
    """All that a report tells. The counts are those of the living processes; `keys_error` says
    why the keys are not all counted.
    """

    health: Health
    hit_rate: float
    total_operations: int
    error_count: int
    versions: dict[str, str]
    settings: tuple[Row, ...]
    servers: list[Server]
    patterns: list[Pattern]
    keys_error: str
    diagnosis: Diagnosis

    def lines(self) -> list[str]:
        """The six lines of the guide."""
        return [
            "=== Cache Diagnostic Report ===",
            f"Health Status: {self.health.status}",
            f"Redis Connected: {self.health.redis_connected}",
            f"Hit Rate: {self.hit_rate:.1%}",
            f"Total Operations: {self.total_operations}",
            f"Error Count: {self.error_count}",
        ]

    def as_json(self) -> dict[str, object]:
        """The same for programs."""
        return {
            "health": self.health,
            "redis_connected": self.health.redis_connected,
            "hit_rate": self.hit_rate,
            "total_operations": self.total_operations,
            "error_count": self.error_count,
            "versions": self.versions,
            "settings": [row._asdict() for row in self.settings],
            "servers": self.servers,
            "patterns": self.patterns,
            "total_bytes": sum(pattern.bytes for pattern in self.patterns),
            "keys_error": self.keys_error,
            "findings": self.diagnosis.findings,
            "checks": self.diagnosis.checks,
        }


def report(*, json: Json = False) -> None:
    """Print the diagnostic report: how the cache is, versions, settings, keys and findings.

    Secrets are masked. The exit status is 0 whatever was found.
    """
    found = _act(_reported)
    if json:
        screen.answer(found.as_json())
        return
    from querycache.doors.cli import diagnosis

    screen.out().print(diagnosis.report(found))
    screen.out().print("\n[bold]Findings:[/]")
    screen.out().print(diagnosis.findings(found.diagnosis), soft_wrap=True)


def check_redis_conf(path: Path, *, json: bool) -> None:
    """Tells what is wrong with a redis.conf; the exit status is 1 where a line stops the server.

    Raises `UsageError` for a file that can't be read.
    """
    from querycache.assembly.doctor import read_conf
    from querycache.usecases.diagnose.redis_conf import judge

    file = read_conf(path)
    if file.text is None:
        raise UsageError(file.error, remedy="name a redis.conf")
    wrong = judge(file.text)
    if json:
        screen.answer(
            {"path": file.path, "valid": not any(one.stops for one in wrong), "problems": wrong}
        )
    else:
        from querycache.doors.cli.diagnosis import redis_conf

        screen.out().print(redis_conf(file.path, wrong), soft_wrap=True)
    raise typer.Exit(FAILED if any(one.stops for one in wrong) else 0)


def _act(work: Callable[[App, Config], Awaitable[T]]) -> T:
    """Does `work` with an App of whatever of the settings can be used, and with the settings."""
    from querycache.config.lenient import load_leniently

    config = load_leniently().loaded.config
    from querycache.assembly import App
    from querycache.assembly.doctor import patient
    from querycache.doors.cli.aside import Aside

    async def whole() -> T:
        asyncio.get_running_loop().set_default_executor(Aside())
        app = App(patient(config), door="doctor")
        try:
            return await work(app, config)
        finally:
            await app.close()

    return asyncio.run(whole())


async def _diagnosed(app: App, config: Config, redis_conf: Path | None = None) -> Diagnosis:
    from querycache.doors.cli.progress import counting

    with counting("checking", app.clock) as count:
        return await app.diagnose(redis_conf=str(redis_conf or ""), config=config, progress=count)


async def _reported(app: App, config: Config) -> Report:
    from querycache.config.lenient import load_leniently
    from querycache.usecases.show_status import totals

    diagnosis = await _diagnosed(app, config)
    sums: dict[str, Any] = totals([did for _, did in await app.processes()])
    servers: list[Server] = []
    if app.redis_admin is not None and not _redis_fails(diagnosis):
        try:
            servers = await app.redis_admin.servers()
        except QueryCacheError as error:
            screen.say(f"warning: {error}")
    patterns: list[Pattern] = []
    keys_error = ""
    try:
        async with asyncio.timeout(_KEYS_S):
            patterns = await app.list_keys()
    except (QueryCacheError, TimeoutError) as error:
        keys_error = f"the keys were not counted: {error or f'not within {_KEYS_S:g} s'}"
    return Report(
        health=await app.status.health(),
        hit_rate=sums["hit_rate"],
        total_operations=sums["total_operations"],
        error_count=sums["error_count"],
        versions=_versions(servers),
        settings=load_leniently().loaded.describe(),
        servers=servers,
        patterns=patterns,
        keys_error=keys_error,
        diagnosis=diagnosis,
    )


def _redis_fails(diagnosis: Diagnosis) -> bool:
    """Whether to ask Redis for more would only take long."""
    return any(
        found.name.startswith("redis.") and found.name not in {"redis.maxmemory", "redis.config"}
        for found in diagnosis.findings
    )


def _versions(servers: list[Server]) -> dict[str, str]:
    from importlib.metadata import version

    found = {name: version(name) for name in _VERSIONED}
    found |= {"python": platform.python_version(), "system": platform.platform()}
    return found | {f"server {one.where}": one.version for one in servers}
