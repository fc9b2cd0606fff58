"""Commands about the set-up: config, models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from querycache.doors.cli import commands_doctor, commands_rollback, screen
from querycache.doors.cli.options import Json, examples
from querycache.doors.cli.running import FAILED, act, settings
from querycache.errors import ConfigError, NotAvailableError

if TYPE_CHECKING:
    from querycache.assembly import App
    from querycache.assembly.models import Installed, Model
    from querycache.ports.administration import Applied

_PANEL = "Set-up"


def add_to(app: typer.Typer) -> None:
    """Adds these commands."""
    config = typer.Typer(no_args_is_help=True, help="Show, check, apply and keep the settings.")
    config.command(epilog=examples("config show", "config show --changed --json"))(show)
    config.command(epilog=examples("config check", "config check redis.conf"))(check)
    config.command(
        "apply-redis", epilog=examples("config apply-redis", "config apply-redis --json")
    )(apply_redis)
    commands_rollback.add_to(config)
    models = typer.Typer(no_args_is_help=True, help="List and install embedding models.")
    models.command("list", epilog=examples("models list"))(list_models)
    models.command(epilog=examples("models install minilm"))(install)
    app.add_typer(config, name="config", rich_help_panel=_PANEL)
    app.add_typer(models, name="models", rich_help_panel=_PANEL)


def show(
    *,
    changed: Annotated[
        bool, typer.Option("--changed", metavar="", help="Only what is not at its default.")
    ] = False,
    json: Json = False,
) -> None:
    """Show each setting: its value (secrets masked), its source, what it does."""
    loaded = settings()
    rows = [row for row in loaded.describe() if not changed or row.source != "default"]
    if json:
        screen.answer(
            {"settings": [row._asdict() for row in rows], "warnings": list(loaded.warnings)}
        )
        return
    from querycache.doors.cli.render import settings_table

    if rows:
        screen.out().print(settings_table(rows))
    else:
        screen.out().print("every setting is at its default")


def check(
    file: Annotated[
        Path | None, typer.Argument(help="A redis.conf to check, instead of the settings.")
    ] = None,
    *,
    json: Json = False,
) -> None:
    """Check the settings, or a redis.conf.

    The exit status is 1 if a setting is wrong or asks for what this build can't do, or if a line
    would keep Redis from starting.
    """
    if file is not None:
        commands_doctor.check_redis_conf(file, json=json)
    from querycache.assembly.sealing import key_findings
    from querycache.config import check as refuse
    from querycache.config import load_config

    problems: list[str] = []
    warnings: list[str] = []
    remedy = ""
    try:
        loaded = load_config()
        warnings = list(loaded.warnings)
        refuse(loaded.config)
        for finding in key_findings(loaded.config):
            problems, remedy = [finding.evidence], finding.remedy
    except ConfigError as error:
        problems, remedy = [str(error)], error.remedy
    if json:
        valid = {"valid": not problems, "problems": problems, "remedy": remedy}
        screen.answer(valid | {"warnings": warnings})
    else:
        for warning in warnings:
            screen.say(f"warning: {warning}")
        for problem in problems:
            screen.say(f"error: {problem}; {remedy}")
        if not problems:
            screen.out().print("the settings are fine")
    raise typer.Exit(FAILED if problems else 0)


def apply_redis(*, json: Json = False) -> None:
    """Give each Redis server REDIS_MAXMEMORY and REDIS_MAXMEMORY_POLICY.

    Nothing else ever changes a server's settings. They hold until it restarts, unless its own
    configuration says the same.
    """

    async def work(app: App) -> list[Applied]:
        if app.redis_admin is None:
            raise NotAvailableError(
                "there is no Redis to apply settings to", remedy="set REDIS_HOST or REDIS_URL"
            )
        wanted = app.config.redis
        return await app.redis_admin.apply(wanted.maxmemory, wanted.maxmemory_policy)

    done = act("config", work)
    if json:
        screen.answer({"servers": done})
        return
    for server in done:
        for name, after in server.after.items():
            change = f"{server.where}: {name} {server.before[name]} -> {after}"
            screen.out().print(screen.line(change), markup=False, soft_wrap=True)


def list_models(*, json: Json = False) -> None:
    """List the embedding models, and which one is used."""

    async def work(app: App) -> list[Model]:
        return app.models()

    found = act("models", work)
    if json:
        screen.answer({"models": [model._asdict() for model in found]})
        return
    from querycache.doors.cli.render import models_table

    screen.out().print(models_table(found))


def install(
    model: Annotated[Literal["minilm"], typer.Argument(help="Which model.")],
    *,
    json: Json = False,
) -> None:
    """Download a model (84 MB) and make it ready to use."""

    async def work(app: App) -> Installed:
        def progress(step: int, steps: int, what: str) -> None:
            screen.say(f"[{step}/{steps}] {what}")

        return await app.install_model(model, progress)

    done = act("models", work)
    if json:
        screen.answer({"model": model} | done._asdict())
        return
    screen.out().print(
        f"installed {model} in {screen.line(done.where)}; use it: QUERYCACHE_EMBEDDER={model}",
        markup=False,
        soft_wrap=True,
    )
