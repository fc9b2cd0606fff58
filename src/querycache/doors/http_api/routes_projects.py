"""The routes about projects: searching, indexing, warming, forgetting."""

from __future__ import annotations

import asyncio

from querycache.doors.http_api import asked, wire
from querycache.doors.http_api.route import Reply, Route, Served
from querycache.errors import ProjectNotFoundError
from querycache.usecases.index_project import Indexed
from querycache.usecases.search_code import Searched
from querycache.usecases.warm_up import Warmed


async def _projects(served: Served, _: asked.NothingAsked) -> Reply:
    return Reply(wire.Projects(await served.app.list_projects()))


async def _search(served: Served, question: asked.SearchAsked) -> Reply:
    note = await served.first_run.wait(served.app, question.project)
    found = await served.app.search(
        question.query,
        question.project,
        folder=served.folder,
        limit=question.limit,
        mode=question.mode,
        language=question.language,
        path=question.path,
    )
    cache = found.cache
    word = "stale" if cache.stale else "hit" if cache.hit else "miss"
    headers = {"Age": str(int(cache.age_s)), "X-Cache": f"{word}; tier={cache.tier}"}
    if note:
        headers["X-Index"] = "partial"
    return Reply(found, headers=headers)


async def _index(served: Served, question: asked.IndexAsked) -> Reply:
    return Reply(await served.app.index(question.path, question.project, force=question.force))


async def _warm(served: Served, question: asked.WarmAsked) -> Reply:
    await served.first_run.wait(served.app, question.project)
    find = served.app.find_project.existing
    project = await asyncio.to_thread(find, question.project, served.folder)
    budget = float("inf") if question.budget_mb is None else question.budget_mb * 1024 * 1024
    return Reply(
        await served.app.warm(
            project, question.queries, budget_s=question.budget_s, budget_bytes=budget
        )
    )


async def _forget(served: Served, question: asked.ForgetAsked) -> Reply:
    if not await served.app.forget(question.name):
        raise ProjectNotFoundError(
            f"no project {question.name!r} is indexed", remedy="see what there is: GET /projects"
        )
    return Reply(wire.Forgotten(question.name, existed=True))


_CACHE_HEADERS = {
    "Age": "Seconds since the answer was made.",
    "X-Index": "`partial` while the first indexing of a served folder is not over.",
    "X-Cache": "`hit`, `miss` or `stale`, and the tier that had it: `hit; tier=l1`.",
}

ROUTES = (
    Route(
        method="GET",
        path="/projects",
        summary="The indexed projects, and how far each lags behind its files.",
        call=_projects,
        answers=wire.Projects,
    ),
    Route(
        method="POST",
        path="/search",
        summary="Search a project's code.",
        call=_search,
        answers=Searched,
        asks=asked.SearchAsked,
        place="body",
        headers=_CACHE_HEADERS,
    ),
    Route(
        method="POST",
        path="/projects",
        summary="Index a local folder: pays only for what changed.",
        call=_index,
        answers=Indexed,
        asks=asked.IndexAsked,
        place="body",
    ),
    Route(
        method="POST",
        path="/warm",
        summary="Load what was asked most of a project, or `queries`, into memory. What a budget"
        " leaves (`left`) is where another request goes on.",
        call=_warm,
        answers=Warmed,
        asks=asked.WarmAsked,
        place="body",
    ),
    Route(
        method="DELETE",
        path="/projects/{name}",
        summary="Forget a project: its index and its entries.",
        call=_forget,
        answers=wire.Forgotten,
        asks=asked.ForgetAsked,
        place="path",
    ),
)
