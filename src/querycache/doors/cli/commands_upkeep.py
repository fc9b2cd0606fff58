"""Commands that keep what the cache holds: backup, verify, restore, clean, reset."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from querycache.doors.cli import screen
from querycache.doors.cli.options import Json, ProjectName, Yes, examples
from querycache.doors.cli.running import FAILED, act, settings
from querycache.errors import UsageError
from querycache.values import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from querycache.assembly import App
    from querycache.usecases.back_up import BackedUp
    from querycache.usecases.clean_up import Cleaned
    from querycache.usecases.restore import Mode, Restored

T = TypeVar("T")

_PANEL = "Upkeep"

File = Annotated[Path, typer.Argument(metavar="FILE", help="The back-up's file.")]


def add_to(app: typer.Typer) -> None:
    """Adds these commands."""
    for command, *lines in (
        (backup, "backup monday.qcb", "backup shop.qcb --project shop --force"),
        (verify, "verify monday.qcb"),
        (restore, "restore monday.qcb", "restore monday.qcb --replace", "restore flat.json"),
        (clean, "clean search project", "clean embedding --json"),
        (reset, "reset"),
    ):
        app.command(epilog=examples(*lines), rich_help_panel=_PANEL)(command)


def backup(
    file: File,
    *,
    project: ProjectName = "",
    force: Annotated[
        bool, typer.Option("--force", "-f", metavar="", help="Replace the file if it exists.")
    ] = False,
    json: Json = False,
) -> None:
    """Write what the shared tier holds into one file.

    The file can be restored into any shared tier, Redis or embedded. It keeps each entry's kind,
    tags and end of life, and what is sealed stays sealed. The cache can be used meanwhile: what
    changes is left out. Nothing is at FILE before it is whole. The exit status is 1 where an entry
    could not be read (with the present keys, for one): the others are in the file.
    """
    _refuse_streams(file)
    from querycache.doors.cli.progress import counting

    async def work(app: App) -> BackedUp:
        if project:
            await _known(app, project)
        with counting("backing up", app.clock) as progress:
            return await app.back_up(str(file), project, force=force, progress=progress)

    done = _act("backup", work)
    if json:
        screen.answer(done)
        raise typer.Exit(FAILED if done.failed else 0)
    from querycache.doors.cli.render import size

    screen.out().print(
        f"wrote {done.entries:,} entries ({size(done.bytes)}) to {screen.line(str(file))}"
        f" ({size(done.file_bytes)})",
        markup=False,
        soft_wrap=True,
    )
    _tell_reasons(done.skipped, done.failed, done.reasons)
    raise typer.Exit(FAILED if done.failed else 0)


async def _known(app: App, project: str) -> None:
    """Raises `ProjectNotFoundError` where nothing is of that project: a slip makes no back-up."""
    if await app.list_keys(project=project):
        return
    await asyncio.to_thread(app.find_project.existing, project)


def verify(file: File, *, json: Json = False) -> None:
    """Check that a back-up is whole, and that its entries open with the present keys.

    Nothing is changed. The exit status is 1 where the file is damaged or an entry does not open.
    """
    _refuse_streams(file)

    async def work(app: App) -> Restored:
        return await app.restore.verify(str(file))

    done = act("verify", work)
    if json:
        screen.answer(done)
    else:
        from querycache.doors.cli.render import size

        made = f", made {_when(done.made_at)}" if done.made_at else ""
        screen.out().print(
            f"{screen.line(str(file))} is whole{made}: {done.entries:,} entries that can be"
            f" restored ({size(done.bytes)})",
            markup=False,
            soft_wrap=True,
        )
        _tell_reasons(done.skipped, done.failed, done.reasons)
    raise typer.Exit(FAILED if done.failed else 0)


def restore(  # noqa: PLR0913 -- options
    file: File,
    *,
    project: ProjectName = "",
    merge: Annotated[
        bool, typer.Option("--merge", metavar="", help="Keep what is there (the default).")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", metavar="", help="Let the file win.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", metavar="", help="Drop what is there first.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Only tell what could be restored.")
    ] = False,
    json: Json = False,
) -> None:
    """Bring the entries of a back-up into the shared tier.

    The file is checked to its end first, and a damaged one changes nothing. An entry keeps its end
    of life; what has expired is skipped. A JSON object of keys and values is read too. The exit
    status is 1 where an entry could not be restored.
    """
    if merge + overwrite + replace > 1:
        raise UsageError(
            "--merge, --overwrite and --replace exclude each other", remedy="give one of them"
        )
    _refuse_streams(file)
    mode: Mode = "overwrite" if overwrite else "replace" if replace else "merge"
    from querycache.doors.cli.progress import counting

    async def work(app: App) -> Restored:
        with counting("restoring", app.clock) as progress:
            return await app.restore(
                str(file),
                project,
                mode=mode,
                dry_run=dry_run,
                progress=progress,
                failed=lambda key, why: screen.say(f"Error recovering key {key}: {why}"),
            )

    done = _act("restore", work)
    if json:
        screen.answer(done)
    else:
        verb = "Would recover" if dry_run else "Recovered"
        screen.out().print(f"{verb} {done.entries} cache entries")
        _tell_reasons(done.skipped, done.failed, done.reasons)
    raise typer.Exit(FAILED if done.failed else 0)


def clean(
    kinds: Annotated[
        list[Kind], typer.Argument(metavar="KIND...", help=f"Which: {', '.join(Kind)}.")
    ],
    *,
    json: Json = False,
) -> None:
    """Delete all entries of some kinds, in every process.

    Other kinds stay. The exit status is 1 where the shared tier is down: then it and other
    processes still serve them.
    """

    def tell(kind: Kind, count: int) -> None:
        if not json:
            screen.out().print(f"Deleted {count} {kind} cache entries")

    async def work(app: App) -> Cleaned:
        return await app.clean_up(kinds, tell)

    _end(act("clean", work), json=json)


def reset(*, yes: Yes = False, json: Json = False) -> None:
    """Delete every entry that is under this cache's prefix, in every process.

    What others keep in the same Redis stays, and so do indexes, keys and settings.
    """
    config = settings().config
    if not yes:
        where = "this machine" if config.l2_backend != "redis" else "Redis, for all who share it"
        prefix = config.core.key_prefix
        screen.say(f"WARNING: this deletes all cached data of {prefix} (on {where})")
        screen.say("Are you sure? (yes/no):")
        if sys.stdin.readline().strip().lower() != "yes":
            screen.say("Reset cancelled")
            raise typer.Exit(FAILED)

    async def work(app: App) -> Cleaned:
        return await app.clean_up.everything()

    done = act("reset", work)
    if not json:
        for kind, count in done.deleted.items():
            screen.out().print(f"Deleted {count} {kind} cache entries")
    _end(done, json=json)


def _act(door: str, work: Callable[[App], Awaitable[T]]) -> T:
    """As `act`; SIGTERM and SIGHUP end it as Ctrl-C does, and nothing half-made is left."""

    async def whole(app: App) -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        for number in (signal.SIGTERM, signal.SIGHUP):
            if task is not None and signal.getsignal(number) is signal.SIG_DFL:  # no nohup
                loop.add_signal_handler(number, task.cancel)
        return await work(app)

    try:
        return act(door, whole)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _refuse_streams(file: Path) -> None:
    if str(file) == "-":
        raise UsageError(
            "a back-up is neither read from nor written to a pipe", remedy="name a file"
        )


def _end(done: Cleaned, *, json: bool) -> None:
    if json:
        screen.answer(done)
    if not done.told:
        screen.say(
            "error: the shared tier is down, so it and other processes still serve these entries;"
            " do it again when `querycache health` says that it is back"
        )
        raise typer.Exit(FAILED)


def _tell_reasons(skipped: int, failed: int, reasons: Mapping[str, int]) -> None:
    if not (skipped or failed):
        return
    told = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
    screen.say(f"note: {skipped:,} skipped, {failed:,} failed ({told})")


def _when(wall: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(wall, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
