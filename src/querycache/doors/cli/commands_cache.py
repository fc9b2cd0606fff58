"""Commands about the cache: health, stats, coherency, keys, explain, invalidate."""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from querycache.doors.cli import screen
from querycache.doors.cli.options import Json, ProjectName, Yes, examples
from querycache.doors.cli.running import FAILED, act
from querycache.errors import UsageError
from querycache.values import Kind

if TYPE_CHECKING:
    from querycache.assembly import App
    from querycache.usecases.explain_key import Explained
    from querycache.usecases.invalidate import Invalidated
    from querycache.usecases.list_keys import Pattern
    from querycache.usecases.show_status import Health

_STATUS = {"healthy": 0, "degraded": 1, "unhealthy": 2, "disconnected": 2}
_PANEL = "Cache"


def add_to(app: typer.Typer) -> None:
    """Adds these commands."""
    app.command(epilog=examples("health && echo fine"), rich_help_panel=_PANEL)(health)
    app.command(epilog=examples("stats", "stats --watch"), rich_help_panel=_PANEL)(stats)
    app.command(epilog=examples("coherency", "coherency --json"), rich_help_panel=_PANEL)(
        coherency
    )
    app.command(
        epilog=examples("keys --sizes", "keys --kind search --project shop --json"),
        rich_help_panel=_PANEL,
    )(keys)
    app.command(epilog=examples("explain report:42"), rich_help_panel=_PANEL)(explain)
    app.command(
        epilog=examples(
            "invalidate --file src/app.py",
            "invalidate --project shop",
            "invalidate --pattern 'search:*'",
        ),
        rich_help_panel=_PANEL,
    )(invalidate)


def health(*, json: Json = False) -> None:
    """Tell how the cache is.

    The exit status says it too: 0 healthy, 1 degraded, 2 unhealthy or disconnected.
    """

    async def work(app: App) -> Health:
        return await app.status.health()

    found = act("health", work)
    if json:
        screen.answer(found)
    else:
        from querycache.doors.cli.render import health_text

        screen.out().print(health_text(found), soft_wrap=True)
    raise typer.Exit(_STATUS[found.status])


def stats(
    *,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", metavar="", help="Refresh every second, until Ctrl-C.")
    ] = False,
    json: Json = False,
) -> None:
    """Show what the living processes did with the cache, per tier and per kind."""
    if watch and json:
        raise UsageError("--watch and --json don't go together", remedy="take one of them")
    from querycache.doors.cli.stats import Stats, look, watched

    if watch:
        with suppress(KeyboardInterrupt):  # its only end
            act("stats", watched)
        return

    async def work(app: App) -> Stats:
        return await look(app)

    found = act("stats", work)
    if json:
        screen.answer(found.as_json())
    else:
        screen.out().print(found.as_text())


def coherency(
    *,
    wait_s: Annotated[
        float, typer.Option(min=0, max=3600, help="How long to wait for their answers.")
    ] = 15.0,
    json: Json = False,
) -> None:
    """Have the living processes compare their memory with the shared tier, and heal it.

    What differs is dropped from memory, so that the shared tier is asked. The exit status is 1
    where anything differed, L2 could not be read, or a process did not answer. They do the same by
    sample every CACHE_COHERENCY_CHECK_INTERVAL seconds; POST /coherency asks one server alone.
    """
    from querycache.doors.cli.coherency import Everywhere, as_text, compared

    async def work(app: App) -> Everywhere:
        return await compared(app, wait_s)

    found = act("coherency", work)
    if json:
        screen.answer(found)
    else:
        screen.out().print(as_text(found))
    raise typer.Exit(0 if found.coherent else 1)


def keys(
    *,
    kind: Annotated[
        Kind | None,
        typer.Option("--kind", metavar="KIND", help=f"Only this kind: {', '.join(Kind)}."),
    ] = None,
    project: ProjectName = "",
    sizes: Annotated[
        bool,
        typer.Option(
            "--sizes", metavar="", help="Show how much they hold, and each kind's share."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Count what the shared tier holds, by the first segments of the names."""

    async def work(app: App) -> list[Pattern]:
        kinds = tuple(Kind) if kind is None else (kind,)
        return await app.list_keys(kinds, project or None)

    found = act("keys", work)
    if json:
        total = sum(pattern.bytes for pattern in found)
        screen.answer({"patterns": found, "total_bytes": total})
        return
    from querycache.doors.cli.render import key_table, type_table

    screen.out().print(key_table(found, sizes=sizes))
    if sizes and found:
        screen.out().print()
        screen.out().print(type_table(found))


def explain(
    key: Annotated[str, typer.Argument(help="A caller's own key, or a full name in L2.")],
    *,
    json: Json = False,
) -> None:
    """Explain an entry: where it is, whether it would be served, its last events.

    The exit status is 1 where no tier holds it.
    """
    if not key:
        raise UsageError("the key is empty", remedy="see what there is: querycache keys")

    async def work(app: App) -> tuple[Explained, float]:
        return await app.explain_key(key), app.clock.wall()

    found, now = act("explain", work)
    nowhere = not (found.entry.l1 or found.entry.l2 or found.entry.trouble)
    if json:
        from querycache.doors.http_api.wire import explanation

        screen.answer(explanation(found))
    else:
        from querycache.doors.cli.explanation import as_text

        screen.out().print(as_text(found, now), soft_wrap=True)
        if nowhere:
            screen.say("no tier holds it; see what there is: querycache keys")
    raise typer.Exit(FAILED if nowhere else 0)


def invalidate(  # noqa: PLR0913 -- options
    *,
    file: Annotated[
        list[Path] | None,
        typer.Option("--file", metavar="PATH", help="All that came from a file; repeatable."),
    ] = None,
    project: Annotated[
        str, typer.Option("--project", "-p", metavar="NAME", help="All entries of a project.")
    ] = "",
    tag: Annotated[str, typer.Option("--tag", help="All entries that carry a tag.")] = "",
    key: Annotated[str, typer.Option("--key", help="One entry.")] = "",
    pattern: Annotated[
        str,
        typer.Option(
            "--pattern",
            metavar="GLOB",
            help="Entries by name: a kind ('search:*'), a project"
            " ('codebase_rag:*:shop:*'), keys of your own ('report:*').",
        ),
    ] = "",
    everything: Annotated[bool, typer.Option("--all", metavar="", help="All entries.")] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Make entries unreachable at once, in all processes.

    Exactly one option says which; --all of a shared Redis asks first, on a terminal. The name of
    a project is never read as a pattern. The exit status is 1 where the shared tier is down: then
    it and other processes still serve them.
    """
    if sum(map(bool, (file, project, tag, key, pattern, everything))) != 1:
        raise UsageError(
            "what to invalidate must be said by exactly one option",
            remedy="give --file, --project, --tag, --key, --pattern or --all",
        )

    def work(app: App) -> Awaitable[Invalidated]:
        if file:
            return app.invalidate.files([str(path.absolute()) for path in file])
        for value, cut in (
            (project, app.invalidate.project),
            (tag, app.invalidate.tag),
            (key, app.invalidate.key),
            (pattern, app.invalidate.pattern),
        ):
            if value:
                return cut(value)
        return _everything(app, sure=yes)

    done = act("invalidate", work)
    if json:
        screen.answer(done)
    elif done.told:
        screen.out().print(f"unreachable now; {done.entries:,} entries were dropped")
    else:
        screen.say(
            "error: the shared tier is down, so it and other processes still serve these entries;"
            " do it again when `querycache health` says that it is back"
        )
    raise typer.Exit(0 if done.told else FAILED)


def _everything(app: App, *, sure: bool) -> Awaitable[Invalidated]:
    if app.config.l2_backend == "redis" and not sure and sys.stdin.isatty():
        typer.confirm("drop every entry of the shared Redis?", abort=True, err=True)
    return app.invalidate.everything()
