"""The routes: one declaration each, from which the server and its OpenAPI document are made."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Literal

import msgspec

from querycache import errors
from querycache.assembly.app import App
from querycache.doors.http_api import wire
from querycache.doors.mcp_server.first_run import FirstRun
from querycache.usecases.index_project import Indexed
from querycache.usecases.invalidate import Invalidated
from querycache.usecases.search_code import Searched
from querycache.usecases.show_status import Health
from querycache.usecases.warm_up import Warmed
from querycache.values import Kind

STATUS_OF: dict[type[errors.QueryCacheError], HTTPStatus] = {
    errors.QueryCacheError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.ConfigError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.UsageError: HTTPStatus.BAD_REQUEST,
    errors.UnsupportedValueError: HTTPStatus.BAD_REQUEST,
    errors.LoadTimeoutError: HTTPStatus.GATEWAY_TIMEOUT,
    errors.ReentrantLoadError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.OutdatedKeyError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ClosedError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.NotAvailableError: HTTPStatus.NOT_IMPLEMENTED,
    errors.ProjectNotFoundError: HTTPStatus.NOT_FOUND,
    errors.IndexBusyError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.EmbedderError: HTTPStatus.BAD_GATEWAY,
    errors.TierError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.UnreadableError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""The one table from errors to statuses; a class without a row has its parent's."""


def status_of(error: errors.QueryCacheError) -> HTTPStatus:
    """The status of an error."""
    return next(STATUS_OF[parent] for parent in type(error).__mro__ if parent in STATUS_OF)


class Served(msgspec.Struct, frozen=True):
    """What the routes serve: an App, and the folders that it was given at the start."""

    app: App
    first_run: FirstRun

    @property
    def folder(self) -> str:
        """The folder whose project is meant where none is named."""
        return self.first_run.folder


class Reply(msgspec.Struct, frozen=True):
    """An answer, its status and its headers."""

    answer: msgspec.Struct
    status: HTTPStatus = HTTPStatus.OK
    headers: dict[str, str] = {}


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A route. `asks` is read from `place`; `statuses` may come beside 200 with the same answer;
    `headers` are those of the answer, each with what it says.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    summary: str
    call: Callable[[Served, Any], Awaitable[Reply]]
    answers: type[msgspec.Struct]
    asks: type[wire.Asked] = wire.NothingAsked
    place: Literal["query", "path", "body"] = "query"
    statuses: tuple[HTTPStatus, ...] = ()
    headers: dict[str, str] = {}


async def _health(served: Served, _: wire.NothingAsked) -> Reply:
    health = await served.app.status.health()
    well = health.status in {"healthy", "degraded"}
    return Reply(health, HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE)


async def _alive(_served: Served, _: wire.NothingAsked) -> Reply:
    return Reply(wire.Alive())


async def _ready(served: Served, _: wire.NothingAsked) -> Reply:
    try:
        names = await asyncio.to_thread(served.app.indexes.names)
    except OSError:
        return Reply(wire.Ready(ready=False, projects=0), HTTPStatus.SERVICE_UNAVAILABLE)
    return Reply(wire.Ready(ready=True, projects=len(names)))


async def _stats(served: Served, _: wire.NothingAsked) -> Reply:
    app = served.app
    snapshot = app.status.snapshot()
    l1, l2 = app.status.tiers([snapshot])
    health = await app.status.health()
    beside = [
        {
            **wire.counted(other),
            "pid": told.pid,
            "door": told.door,
            "started": told.started,
            "published_at": told.published_at,
            "this": told.pid == app.registry.pid,
            "l1_size": other.l1_size,
            "l1_bytes": other.l1_bytes,
        }
        for told, other in await app.processes()
    ]
    l2_stats = wire.L2Stats(
        enabled=l2.enabled,
        hits=l2.hit_count,
        misses=l2.miss_count,
        hit_rate=l2.hit_rate,
        miss_rate=l2.miss_rate,
        total_operations=l2.total_operations,
        errors=l2.error_count,
        backend=health.l2_backend,
        connected=health.l2_connected,
        entries=health.l2_entries,
        bytes=health.l2_bytes,
        max_bytes=health.l2_max_bytes,
    )
    whole = {
        **wire.counted(snapshot),
        "last_reset": app.started_at,
        "uptime_s": snapshot.uptime_s,
        "tiers": wire.Tiers(wire.l1_stats(l1, snapshot), l2_stats),
        "processes": beside,
    }
    return Reply(msgspec.convert(whole, wire.Stats))


async def _metrics(served: Served, _: wire.NothingAsked) -> Reply:
    app = served.app
    if not app.config.watch.metrics_enabled:
        raise errors.NotAvailableError(
            "metrics are switched off", remedy="set CACHE_METRICS_ENABLED=true"
        )
    health = await app.status.health()
    snapshot = app.status.snapshot()
    l1, l2 = app.status.tiers([snapshot])
    fields = {
        **wire.counted(snapshot),
        "timestamp": app.clock.wall(),
        "redis_connected": health.redis_connected,
        "redis_ping_time": health.redis_ping_time,
        "l1_memory_usage": wire.l1_stats(l1, snapshot).memory_usage_mb,
        "l1_hit_rate": l1.hit_rate,
        "l2_hit_rate": l2.hit_rate,
    }
    return Reply(msgspec.convert(fields, wire.Metrics))


async def _keys(served: Served, asked: wire.KeysAsked) -> Reply:
    kinds = tuple(Kind) if asked.kind is None else (asked.kind,)
    return Reply(wire.Patterns(await served.app.list_keys(kinds, asked.project)))


async def _explain(served: Served, asked: wire.ExplainAsked) -> Reply:
    return Reply(wire.explanation(await served.app.explain_key(asked.key)))


async def _projects(served: Served, _: wire.NothingAsked) -> Reply:
    return Reply(wire.Projects(await served.app.list_projects()))


async def _search(served: Served, asked: wire.SearchAsked) -> Reply:
    note = await served.first_run.wait(served.app, asked.project)
    found = await served.app.search(
        asked.query,
        asked.project,
        folder=served.folder,
        limit=asked.limit,
        mode=asked.mode,
        language=asked.language,
        path=asked.path,
    )
    cache = found.cache
    word = "stale" if cache.stale else "hit" if cache.hit else "miss"
    headers = {"Age": str(int(cache.age_s)), "X-Cache": f"{word}; tier={cache.tier}"}
    if note:
        headers["X-Index"] = "partial"
    return Reply(found, headers=headers)


async def _index(served: Served, asked: wire.IndexAsked) -> Reply:
    return Reply(await served.app.index(asked.path, asked.project, force=asked.force))


async def _warm(served: Served, asked: wire.WarmAsked) -> Reply:
    find = served.app.find_project.existing
    project = await asyncio.to_thread(find, asked.project, served.folder)
    budget = float("inf") if asked.budget_mb is None else asked.budget_mb * 1024 * 1024
    return Reply(
        await served.app.warm(project, asked.queries, budget_s=asked.budget_s, budget_bytes=budget)
    )


async def _invalidate(served: Served, asked: wire.InvalidateAsked) -> Reply:
    given = {name: value for name, value in msgspec.structs.asdict(asked).items() if value}
    if len(given) != 1:
        raise errors.UsageError(
            f"{len(given)} things are named to invalidate",
            remedy="name exactly one of file, project, tag, key, or set all",
        )
    invalidate = served.app.invalidate
    if asked.all:
        return Reply(await invalidate.everything())
    if asked.file:
        file = os.path.join(os.path.abspath(served.folder), asked.file)  # noqa: ASYNC240, PTH100, PTH118 -- no I/O
        return Reply(await invalidate.files([file]))
    ((name, value),) = given.items()
    verb = {"project": invalidate.project, "tag": invalidate.tag, "key": invalidate.key}[name]
    return Reply(await verb(value))


async def _forget(served: Served, asked: wire.ForgetAsked) -> Reply:
    return Reply(wire.Forgotten(asked.name, existed=await served.app.forget(asked.name)))


_UNWELL = (HTTPStatus.SERVICE_UNAVAILABLE,)
_CACHE_HEADERS = {
    "Age": "Seconds since the answer was made.",
    "X-Index": "`partial` while the first indexing of a served folder is not over.",
    "X-Cache": "`hit`, `miss` or `stale`, and the tier that had it: `hit; tier=l1`.",
}

ROUTES = (
    Route(
        method="GET",
        path="/health/cache",
        summary="How the cache is; 503 when unhealthy or disconnected.",
        call=_health,
        answers=Health,
        statuses=_UNWELL,
    ),
    Route(
        method="GET",
        path="/health/live",
        summary="Whether the process answers.",
        call=_alive,
        answers=wire.Alive,
    ),
    Route(
        method="GET",
        path="/health/ready",
        summary="Whether searches can be answered.",
        call=_ready,
        answers=wire.Ready,
        statuses=_UNWELL,
    ),
    Route(
        method="GET",
        path="/stats/cache",
        summary="What this process did, per tier and per kind.",
        call=_stats,
        answers=wire.Stats,
    ),
    Route(
        method="GET",
        path="/metrics/cache",
        summary="Rates, operations and memory, to be plotted.",
        call=_metrics,
        answers=wire.Metrics,
    ),
    Route(
        method="GET",
        path="/keys",
        summary="What the shared tier holds, counted by pattern.",
        call=_keys,
        answers=wire.Patterns,
        asks=wire.KeysAsked,
    ),
    Route(
        method="GET",
        path="/keys/explain",
        summary="Where an entry is, and why it is served or not.",
        call=_explain,
        answers=wire.Explanation,
        asks=wire.ExplainAsked,
    ),
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
        asks=wire.SearchAsked,
        place="body",
        headers=_CACHE_HEADERS,
    ),
    Route(
        method="POST",
        path="/projects",
        summary="Index a local folder: pays only for what changed.",
        call=_index,
        answers=Indexed,
        asks=wire.IndexAsked,
        place="body",
    ),
    Route(
        method="POST",
        path="/warm",
        summary="Load what was asked most of a project.",
        call=_warm,
        answers=Warmed,
        asks=wire.WarmAsked,
        place="body",
    ),
    Route(
        method="POST",
        path="/invalidate",
        summary="Make entries unreachable: by file, project, tag, key, or all.",
        call=_invalidate,
        answers=Invalidated,
        asks=wire.InvalidateAsked,
        place="body",
    ),
    Route(
        method="DELETE",
        path="/projects/{name}",
        summary="Forget a project: its index and its entries.",
        call=_forget,
        answers=wire.Forgotten,
        asks=wire.ForgetAsked,
        place="path",
    ),
)
