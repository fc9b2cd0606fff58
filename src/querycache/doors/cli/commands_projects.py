"""Commands about projects: index, search, projects, forget, warm."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import to_builtins

from querycache.doors.cli import screen
from querycache.doors.cli.options import Json, ProjectName, Yes, examples
from querycache.doors.cli.running import MISUSED, act
from querycache.errors import ProjectNotFoundError
from querycache.ports.origins import Mode

if TYPE_CHECKING:
    from querycache.assembly import App
    from querycache.usecases.index_project import Indexed
    from querycache.usecases.list_projects import Listed
    from querycache.usecases.search_code import Searched
    from querycache.usecases.warm_up import Warmed

_MB = 1024 * 1024


def add_to(app: typer.Typer) -> None:
    """Adds these commands."""
    app.command(
        epilog=examples("index .", "index ~/code/shop --project shop"), rich_help_panel="Projects"
    )(index)
    app.command(
        epilog=examples(
            'search "where is the session cookie signed"',
            "search parse_config -k 3 --mode keyword --path 'src/*' --json",
        ),
        rich_help_panel="Projects",
    )(search)
    app.command(epilog=examples("projects"), rich_help_panel="Projects")(projects)
    app.command(epilog=examples("forget shop --yes"), rich_help_panel="Projects")(forget)
    app.command(
        epilog=examples("warm shop", "warm shop --queries questions.txt --budget-s 10"),
        rich_help_panel="Projects",
    )(warm)


def index(
    path: Annotated[Path, typer.Argument(help="The folder of the project.")],
    *,
    project: ProjectName = "",
    force: Annotated[
        bool, typer.Option("--force", metavar="", help="Read, parse and store every file anew.")
    ] = False,
    json: Json = False,
) -> None:
    """Index a project: pay only for what changed since the last time."""
    from querycache.doors.cli.progress import indexing

    async def work(app: App) -> Indexed:
        with indexing(app.clock) as progress:
            return await app.index(str(path), project, force=force, progress=progress)

    done = act("index", work, told=True)
    if json:
        screen.answer(done)
        return
    from querycache.doors.cli.render import indexed

    screen.out().print(indexed(done), soft_wrap=True)


def search(  # noqa: PLR0913 -- one for each option
    query: Annotated[str, typer.Argument(help="A word, a name or a sentence.")],
    *,
    project: Annotated[
        str,
        typer.Option(
            "--project",
            "-p",
            metavar="NAME",
            help="The project (default: the one that holds this folder, or the only one).",
        ),
    ] = "",
    limit: Annotated[
        int, typer.Option("--limit", "-k", min=1, max=100, help="Most results.")
    ] = 10,
    mode: Annotated[Mode, typer.Option("--mode", help="What to rank by.")] = "hybrid",
    language: Annotated[
        str, typer.Option("--language", "-l", help="Only this language: python, go, ...")
    ] = "",
    path: Annotated[
        str, typer.Option("--path", metavar="GLOB", help="Only paths like this.")
    ] = "",
    json: Json = False,
) -> None:
    """Search a project's code by meaning and by words."""

    async def work(app: App) -> tuple[Searched, int]:
        answer = await app.search(
            query,
            project,
            folder=str(Path.cwd()),
            limit=limit,
            mode=mode,
            language=language,
            path=path,
        )
        return answer, app.status.snapshot().kinds["embedding"].loads

    found, embedded = act("search", work)
    if json:
        screen.answer(to_builtins(found) | {"embedded": embedded})
        return
    from querycache.doors.cli.render_search import searched

    console = screen.out()
    shown = searched(found, coloured=console.is_terminal, columns=console.width)
    console.print(shown, soft_wrap=True)


def projects(*, json: Json = False) -> None:
    """List the indexed projects."""

    async def work(app: App) -> tuple[list[Listed], float]:
        return await app.list_projects(), app.clock.wall()

    found, now = act("projects", work)
    if json:
        screen.answer({"projects": found})
        return
    from querycache.doors.cli.render import project_table

    screen.out().print(project_table(found, now))


def forget(
    project: Annotated[str, typer.Argument(help="The project, by its name.")],
    *,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Drop a project's index, its entries and its query log.

    The files of the project stay as they are.
    """
    if not yes:
        _ask(f"Forget the index and the entries of {screen.line(project)!r}?")

    async def work(app: App) -> bool:
        return await app.forget(project)

    if not act("forget", work):
        raise ProjectNotFoundError(
            f"no project {project!r} is indexed", remedy="see: querycache projects"
        )
    if json:
        screen.answer({"project": project, "forgotten": True})
    else:
        screen.out().print(f"forgot {screen.line(project)}", markup=False)


def warm(
    project: Annotated[str, typer.Argument(help="The project, by its name.")],
    *,
    queries: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Ask these, instead of what was asked most: one a line, as text or as JSON"
            " objects with query, limit, mode, language, path.",
        ),
    ] = None,
    budget_s: Annotated[float, typer.Option(min=0, help="Stop after so many seconds.")] = 30.0,
    budget_mb: Annotated[
        float | None, typer.Option(min=0, help="Stop when memory grew by so much.")
    ] = None,
    json: Json = False,
) -> None:
    """Index what changed, and ask beforehand what was asked most.

    The answers are in the shared tier then, where every process finds them. What is there already
    is skipped, so a run that was stopped goes on where it was.
    """
    from querycache.doors.cli import warming

    asked = None if queries is None else warming.questions_in(queries)
    from querycache.doors.cli.progress import counting

    async def work(app: App) -> tuple[Warmed, list[str]]:
        with counting("warming", app.clock) as progress:
            done = await app.warm(
                project,
                asked,
                budget_s=budget_s,
                budget_bytes=float("inf") if budget_mb is None else budget_mb * _MB,
                lasting=True,
                progress=progress,
            )
        return done, await warming.notes(app, done, project if asked is None else "")

    done, notes = act("warm", work, told=True)
    if json:
        screen.answer(done)
    else:
        screen.out().print(warming.as_text(done), soft_wrap=True)
    for note in notes:
        screen.say(f"note: {note}")


def _ask(question: str) -> None:
    """Returns if the answer is yes."""
    import sys

    if not sys.stdin.isatty():
        screen.say("error: nobody is here to ask; repeat it with --yes")
        raise typer.Exit(MISUSED)
    if not typer.confirm(question, err=True):
        screen.say("nothing was done")
        raise typer.Exit(1)
