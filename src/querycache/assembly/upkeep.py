"""From the parts of a process to its upkeep: back-ups, restores, clean-ups."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from querycache.assembly.sealing import open_keyring
from querycache.cache.dumping import ListedSource
from querycache.cache.rebinding import Rebinder
from querycache.clock import Clock
from querycache.codec.pipeline import Pipeline
from querycache.errors import BackupError, TierError
from querycache.ports.backup import Source
from querycache.ports.codec import Codec
from querycache.ports.tiers import L2, Secrets
from querycache.usecases.back_up import BackedUp, BackUp
from querycache.usecases.clean_up import CleanUp
from querycache.usecases.restore import Restore
from querycache.values import Kind

if TYPE_CHECKING:
    from querycache.assembly.cases import UseCases
    from querycache.usecases.invalidate import Invalidated

_MOST_KEPT = 20


def back_up(app: UseCases) -> BackUp:
    """Writes back-ups of what the shared tier holds."""
    from querycache.codec.backup_file import DiskBackups

    return BackUp(
        app.core,
        app.namer,
        Rebinder(app.core, app.codec, app.clock),
        _source(app.core.l2, app.clock),
        DiskBackups(),
        app.clock,
        codec_over=partial(_codec_over, app),
        program=f"querycache {version('querycache')}",
    )


def restore(app: UseCases) -> Restore:
    """Gives back-ups to the shared tier."""
    from querycache.codec.backup_file import DiskBackups

    async def drop(project: str) -> None:
        cut = app.invalidate.project(project) if project else app.invalidate.everything()
        _check(await cut)

    return Restore(
        app.core,
        app.namer,
        Rebinder(app.core, app.codec, app.clock),
        DiskBackups(),
        app.clock,
        codec_over=partial(_codec_over, app),
        drop=drop,
        put=app.remember.set,
        there=app.remember.exists,
    )


def clean_up(app: UseCases) -> CleanUp:
    """Deletes by kind."""

    async def cut(kind: Kind) -> tuple[int, bool]:
        done = await app.invalidate.kind(kind)
        return done.entries, done.told

    return CleanUp(app.core, app.namer, cut, app.clock)


async def back_up_at_home(app: UseCases, make: BackUp) -> BackedUp:
    """A back-up in the folder `backups` of the home, named by the time, for callers that must not
    name files. Raises `BackupError`, also where too many are there.
    """
    folder = app.usable_home / "backups"
    folder.mkdir(mode=0o700, exist_ok=True)
    if len(list(folder.glob("*.qcb"))) >= _MOST_KEPT:
        raise BackupError(
            f"{folder} holds {_MOST_KEPT} back-ups already", remedy="remove some of them"
        )
    return await make(str(named_by_time(folder, app.clock.wall())))


def named_by_time(folder: Path, wall: float) -> Path:
    """A file that sorts by its time (UTC)."""
    from datetime import UTC, datetime

    return folder / f"{datetime.fromtimestamp(wall, UTC):%Y%m%dT%H%M%S}Z.qcb"


def _codec_over(app: UseCases, secrets: Secrets) -> Codec:
    """A codec that reads as the App's does, but asks `secrets` for what seals need."""
    config = app.config
    if not config.sealed_kinds:
        return Pipeline()
    from querycache.codec.seal import AesSeal

    ring = open_keyring(config, app.clock)
    return Pipeline(seal=AesSeal(ring, secrets, app.clock, config.sealed_kinds))


def _source(l2: L2, clock: Clock) -> Source:
    if l2.name == "sqlite":
        from querycache.tiers.sqlite import SqliteTier

        if isinstance(l2, SqliteTier):
            return l2.source()
    return ListedSource(l2, clock)


def _check(cut: Invalidated) -> None:
    if not cut.told:
        raise TierError(
            "the shared tier is down: what is there could not be dropped",
            remedy="do it again when `querycache health` says that it is back",
        )
