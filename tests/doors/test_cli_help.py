"""What the commands are, and that each shows how it is typed."""

from __future__ import annotations

import typer

from querycache.doors.cli import commands_cache, commands_measure, commands_projects
from querycache.doors.cli.commands_doctor import add_to as add_doctor
from querycache.doors.cli.commands_key import add_to as add_key
from querycache.doors.cli.commands_profile import add_to as add_profile
from querycache.doors.cli.commands_serving import add_to as add_serving
from querycache.doors.cli.commands_setup import add_to as add_setup
from querycache.doors.cli.commands_upkeep import add_to as add_upkeep
from querycache.doors.cli.program import app

NAMES = {
    *("index", "search", "projects", "forget", "warm", "health", "stats", "keys", "explain"),
    *("doctor", "report"),
    *("backup", "verify", "restore", "clean", "reset"),
    *("coherency", "invalidate", "serve", "mcp", "demo", "bench", "replay", "profile"),
}


def test_every_command_has_a_summary_and_an_example():
    made = typer.Typer()
    for module in (commands_cache, commands_measure, commands_projects):
        module.add_to(made)
    add_doctor(made)
    add_profile(made)
    add_serving(made)
    add_setup(made)
    add_upkeep(made)
    add_key(made)
    groups = [group.typer_instance for group in made.registered_groups]
    assert {group.name for group in made.registered_groups} == {"config", "models", "key"}
    for of in (made, *filter(None, groups)):
        for command in of.registered_commands:
            assert command.callback is not None
            name = command.name or command.callback.__name__
            shown = command.epilog or ""
            for group in ("config ", "models ", "key "):
                shown = shown.replace(f"querycache {group}", "querycache ")
            assert f"querycache {name}" in shown
            summary = (command.callback.__doc__ or "").split("\n")[0]
            assert summary.endswith(".")


def test_the_program_has_them_all():
    callbacks = (command.callback for command in app.registered_commands)
    assert {callback.__name__ for callback in callbacks if callback} == NAMES
