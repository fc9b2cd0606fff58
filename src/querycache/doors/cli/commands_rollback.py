"""Commands that keep the last good settings and put them back: config save, config rollback."""

from __future__ import annotations

from pathlib import Path

import typer

from querycache.doors.cli import screen
from querycache.doors.cli.options import Json, examples

_RESTART = (
    "restart what runs with them: docker compose -f docker-compose.cache.yml up -d, and every"
    " `querycache serve`"
)


def add_to(config: typer.Typer) -> None:
    """Adds these commands to the group."""
    config.command(epilog=examples("config save"))(save)
    config.command(epilog=examples("config rollback"))(rollback)


def save(*, json: Json = False) -> None:
    """Keep the settings here as the last good ones.

    Checks them, then copies .env and docker-compose.cache.yml of the working directory to
    .env.backup and docker-compose.cache.yml.backup, for their owner alone.
    """
    from querycache.config.last_good import save as keep

    kept = keep(Path.cwd())
    if json:
        screen.answer(kept._asdict())
        return
    for name in kept.files:
        screen.out().print(f"{name} -> {name}.backup")
    if kept.elsewhere:
        screen.say(f"note: not in them, but in the environment: {', '.join(kept.elsewhere)}")


def rollback(*, json: Json = False) -> None:
    """Put the last good settings back.

    Refuses where a copy is missing or would not be accepted, and changes nothing then. What is
    replaced stays beside it, as .env.replaced and docker-compose.cache.yml.replaced.
    """
    from querycache.config.last_good import roll_back

    done = roll_back(Path.cwd())
    if json:
        screen.answer(done._asdict())
        return
    for name in done.restored:
        screen.out().print(f"{name}.backup -> {name}")
    for name in done.unchanged:
        screen.out().print(f"{name} is the last good one already")
    if done.restored:
        screen.say(_RESTART)
