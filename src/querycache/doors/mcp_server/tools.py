"""The tools: one for each use case."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult
from pydantic import Field

from querycache.doors.mcp_server import answers
from querycache.doors.mcp_server.answers import answer, read
from querycache.doors.mcp_server.first_run import FirstRun
from querycache.errors import ProjectNotFoundError, QueryCacheError, UsageError

if TYPE_CHECKING:
    from querycache.assembly.app import App
    from querycache.usecases.index_project import Progress

_EVENTS = 20

Project = Annotated[str, Field(description="Project name; default: the one being worked on")]
OptionalText = Annotated[str, Field(max_length=4096)]


class Tools:
    """The tools of one server, over an App that may not be there yet."""

    def __init__(self, app: Callable[[], Awaitable[App]], roots: Sequence[str]) -> None:
        self._app = app
        self._first_run = FirstRun(roots)

    async def search_code(  # noqa: PLR0913, PLR0917 -- arguments come by name
        self,
        ctx: Context,
        query: Annotated[
            str, Field(description="Words, a name, or a question", max_length=10_000)
        ],
        project: Project = "",
        limit: Annotated[int, Field(ge=1, le=100)] = 10,
        mode: Annotated[
            Literal["hybrid", "semantic", "keyword"],
            Field(description="keyword for exact names, semantic for meaning"),
        ] = "hybrid",
        language: Annotated[str, Field(description='Only this language, e.g. "python"')] = "",
        path: Annotated[str, Field(description='Only paths of this glob, e.g. "src/**"')] = "",
    ) -> Annotated[CallToolResult, answers.Found]:
        """Search an indexed project's code by meaning and by name. Use it to find where something
        is defined, done or mentioned before opening files. Edits are found within moments, and no
        result is older than its file.
        """
        with failures_told():
            app = await self._app()
            note = await self._first_run.wait(app, project, ctx.report_progress)
            try:
                found = await app.search(
                    query,
                    project,
                    folder=self._first_run.folder,
                    limit=limit,
                    mode=mode,
                    language=language,
                    path=path,
                )
            except ProjectNotFoundError as error:
                raise (UsageError(note, remedy="ask again later") if note else error) from None
        if found.left_out:
            left_out = f"left out, for they change all the time: {', '.join(found.left_out)}"
            note = f"{note}; {left_out}" if note else left_out
        cache = found.cache
        return answer(
            answers.Found(
                project=found.project,
                results=[read(answers.Hit, hit) for hit in found.results],
                took_ms=found.took_ms,
                note=note,
            ),
            tier=cache.tier,
            age_s=cache.age_s,
            generation=cache.generation,
            stale=cache.stale,
        )

    async def index_project(
        self,
        ctx: Context,
        path: Annotated[str, Field(description="A folder; default: the one served")] = "",
        project: Annotated[str, Field(description="A name for it; default: the folder's")] = "",
        force: Annotated[bool, Field(description="Read files that look unchanged, too")] = False,  # noqa: FBT002 -- a named argument of a tool
    ) -> Annotated[CallToolResult, answers.Indexed]:
        """Index a folder of code so that it can be searched. Pays only for what changed. Folders
        given when the server started are indexed and watched already.
        """
        with failures_told():
            app = await self._app()
            folder = os.path.join(self._first_run.folder, path)  # noqa: PTH118 -- "" stays ""
            if not folder:
                raise UsageError("no folder is named", remedy="give a path")
            async with _progress(ctx) as tell:

                def progress(now: Progress) -> None:
                    waits = "another process is indexing it"
                    tell(now.done, now.total, waits if now.waiting else now.path)

                done = await app.index(folder, project, force=force, progress=progress)
        return answer(read(answers.Indexed, done), generation=done.generation)

    async def list_projects(self) -> Annotated[CallToolResult, answers.Projects]:
        """List the indexed projects: their names, folders, sizes, and how many of their files
        changed since.
        """
        with failures_told():
            listed = await (await self._app()).list_projects()
        return answer(answers.Projects(projects=[read(answers.Project, one) for one in listed]))

    async def forget_project(
        self, project: Annotated[str, Field(min_length=1, description="Its name")]
    ) -> Annotated[CallToolResult, answers.Forgotten]:
        """Drop a project's index and its cache entries. The files stay; indexing it again takes
        its full time.
        """
        with failures_told():
            existed = await (await self._app()).forget(project)
        return answer(answers.Forgotten(project=project, existed=existed))

    async def cache_health(self) -> Annotated[CallToolResult, answers.Health]:
        """Tell whether the cache works: healthy, degraded, unhealthy or disconnected, and why.
        Searches go on working in any case.
        """
        with failures_told():
            health = await (await self._app()).status.health()
        return answer(read(answers.Health, health))

    async def cache_stats(self) -> Annotated[CallToolResult, answers.Stats]:
        """Tell hit rates and seconds saved, per tier and per kind, over all running processes."""
        from msgspec import to_builtins  # noqa: PLC0415 -- after the handshake

        from querycache.usecases.show_status import savings, together, totals  # noqa: PLC0415 -- after the handshake

        with failures_told():
            app = await self._app()
            here = app.status.snapshot()
            living = await app.processes()
            beside = [snapshot for who, snapshot in living if not app.registry.is_me(who)]
            every = [here, *beside]
            l1, l2 = app.status.tiers(every)
            whole, sums = totals(every), together(every)
            saved = savings(every, app.config.embedder.price)
        return answer(
            read(
                answers.Stats,
                {
                    **whole,
                    "l1": read(answers.Tier, l1),
                    "l2": read(answers.Tier, l2),
                    "l1_size": sums.l1_size,
                    "l1_bytes": sums.l1_bytes,
                    "mismatches": sums.coherency.mismatches,
                    "pending": sums.pending.dirty + sums.pending.recovery,
                    "savings": to_builtins(saved),
                    "kinds": whole["by_kind"],
                    "processes": len(every),
                },
            )
        )

    async def cache_explain(
        self, key: Annotated[str, Field(min_length=1, max_length=4096)]
    ) -> Annotated[CallToolResult, answers.Explained]:
        """Explain a cache entry: which tier has it, its age, whether it would be served, and its
        last events. Takes a full name or a caller's own key.
        """
        with failures_told():
            found = await (await self._app()).explain_key(key)
        entry = found.entry
        return answer(
            answers.Explained(
                key=found.key,
                kind=found.kind,
                l1=entry.l1 and read(answers.Entry, entry.l1),
                l2=entry.l2 and read(answers.Entry, entry.l2),
                trouble=entry.trouble,
                events=[
                    f"{at:.3f} {process}: {event}"
                    for at, process, event in found.events[-_EVENTS:]
                ],
            )
        )

    async def cache_warm(
        self,
        ctx: Context,
        project: Project = "",
        queries: Annotated[
            list[str] | None, Field(description="Default: what was asked most", max_length=1000)
        ] = None,
        budget_s: Annotated[float, Field(ge=0, le=600)] = 30.0,
        budget_mb: Annotated[float | None, Field(ge=0, description="MiB of memory")] = None,
    ) -> Annotated[CallToolResult, answers.Warmed]:
        """Load a project's most asked searches into memory, so that they are answered at once.
        What a budget left is where another call goes on.
        """
        with failures_told():
            app = await self._app()
            await self._first_run.wait(app, project, ctx.report_progress)
            find = app.find_project.existing
            name = await asyncio.to_thread(find, project, self._first_run.folder)
            async with _progress(ctx) as tell:
                warmed = await app.warm(
                    name,
                    queries,
                    budget_s=budget_s,
                    budget_bytes=float("inf") if budget_mb is None else budget_mb * 1024 * 1024,
                    progress=tell,
                )
        return answer(read(answers.Warmed, warmed))

    async def cache_invalidate(
        self,
        file: OptionalText = "",
        project: OptionalText = "",
        tag: OptionalText = "",
        key: OptionalText = "",
        pattern: OptionalText = "",
        all: bool = False,  # noqa: A002, FBT001, FBT002 -- the name of a tool's argument
    ) -> Annotated[CallToolResult, answers.Invalidated]:
        """Make cache entries unreachable, in all processes: give exactly one of file (a path),
        project, tag, key, pattern (a glob: search:*), or all=true. Edits to files need no
        invalidation.
        """
        with failures_told():
            given = {"file": file, "project": project, "tag": tag, "key": key, "pattern": pattern}
            named = [name for name, value in (*given.items(), ("all", all)) if value]
            if len(named) != 1:
                raise UsageError(
                    f"{len(named)} things are named to invalidate",
                    remedy="give exactly one of file, project, tag, key, pattern, all",
                )
            invalidate = (await self._app()).invalidate
            if all:
                cut = await invalidate.everything()
            elif file:
                folder = os.path.abspath(self._first_run.folder)  # noqa: ASYNC240, PTH100 -- no I/O
                cut = await invalidate.files([os.path.join(folder, file)])  # noqa: PTH118 -- no I/O
            elif project:
                cut = await invalidate.project(project)
            elif pattern:
                cut = await invalidate.pattern(pattern)
            else:
                cut = await (invalidate.tag(tag) if tag else invalidate.key(key))
        return answer(read(answers.Invalidated, cut))


@contextmanager
def failures_told() -> Generator[None]:
    """Hands a known error to the model, with its remedy."""
    try:
        yield
    except QueryCacheError as error:
        remedy = f"; {error.remedy}" if error.remedy else ""
        raise ToolError(f"{type(error).__name__}: {error}{remedy}") from error


@asynccontextmanager
async def _progress(ctx: Context) -> AsyncGenerator[_Progress]:
    """Sends what it is told, while the block runs."""
    progress = _Progress(ctx)
    sending = asyncio.ensure_future(progress.run())
    try:
        yield progress
        await progress.send()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


class _Progress:
    """Takes progress where it is made, and sends it from a task of its own."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._news = asyncio.Event()
        self._last: tuple[float, float | None, str] = (0.0, None, "")
        self._sent = -1.0

    def __call__(self, done: int, total: int, line: str = "") -> None:
        self._last = (done, total or None, line)
        self._news.set()

    async def run(self) -> None:
        while True:
            await self._news.wait()
            await self.send()

    async def send(self) -> None:
        """Sends what is new; progress that does not grow is none."""
        self._news.clear()
        done, total, line = self._last
        if done > self._sent:
            self._sent = done
            await self._ctx.report_progress(done, total, line)
