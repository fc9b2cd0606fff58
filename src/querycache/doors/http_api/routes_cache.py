"""The routes about the cache: health, statistics, keys, invalidation."""

from __future__ import annotations

import asyncio
import os
from http import HTTPStatus

import msgspec

from querycache import errors
from querycache.doors.http_api import asked, wire
from querycache.doors.http_api.route import Reply, Route, Served
from querycache.usecases.check_coherency import Coherency
from querycache.usecases.invalidate import Invalidated
from querycache.usecases.show_status import Health
from querycache.values import Kind


async def _health(served: Served, _: asked.NothingAsked) -> Reply:
    health = await served.app.status.health()
    well = health.status in {"healthy", "degraded"}
    return Reply(health, HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE)


async def _alive(_served: Served, _: asked.NothingAsked) -> Reply:
    return Reply(wire.Alive())


async def _ready(served: Served, _: asked.NothingAsked) -> Reply:
    try:
        names = await asyncio.to_thread(served.app.indexes.names)
    except OSError:
        return Reply(wire.Ready(ready=False, projects=0), HTTPStatus.SERVICE_UNAVAILABLE)
    return Reply(wire.Ready(ready=True, projects=len(names)))


async def _stats(served: Served, _: asked.NothingAsked) -> Reply:
    app = served.app
    snapshot = app.status.snapshot()
    beside = [
        wire.process(told, did, this=app.registry.is_me(told))
        for told, did in await app.processes()
    ]
    tiers = app.status.shaped([snapshot], await app.status.health())
    return Reply(
        wire.stats(
            [snapshot],
            tiers,
            beside,
            price=app.config.embedder.price,
            since=app.started_at,
            uptime_s=snapshot.uptime_s,
        )
    )


async def _keys(served: Served, question: asked.KeysAsked) -> Reply:
    kinds = tuple(Kind) if question.kind is None else (question.kind,)
    return Reply(wire.Patterns(await served.app.list_keys(kinds, question.project)))


async def _explain(served: Served, question: asked.ExplainAsked) -> Reply:
    return Reply(wire.explanation(await served.app.explain_key(question.key)))


async def _invalidate(served: Served, question: asked.InvalidateAsked) -> Reply:
    given = {name: value for name, value in msgspec.structs.asdict(question).items() if value}
    if len(given) != 1:
        raise errors.UsageError(
            f"{len(given)} things are named to invalidate",
            remedy="name exactly one of file, project, tag, key, pattern, or set all",
        )
    invalidate = served.app.invalidate
    if question.all:
        return Reply(await invalidate.everything())
    if question.file:
        file = os.path.join(os.path.abspath(served.folder), question.file)  # noqa: ASYNC240, PTH100, PTH118 -- no I/O
        return Reply(await invalidate.files([file]))
    ((name, value),) = given.items()
    verbs = {
        "project": invalidate.project,
        "tag": invalidate.tag,
        "key": invalidate.key,
        "pattern": invalidate.pattern,
    }
    return Reply(await verbs[name](value))


async def _coherency(served: Served, question: asked.CoherencyAsked) -> Reply:
    return Reply(await served.app.check_coherency(question.limit))


_UNWELL = (HTTPStatus.SERVICE_UNAVAILABLE,)

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
        path="/keys",
        summary="What the shared tier holds, counted by pattern.",
        call=_keys,
        answers=wire.Patterns,
        asks=asked.KeysAsked,
    ),
    Route(
        method="GET",
        path="/keys/explain",
        summary="Where an entry is, and why it is served or not.",
        call=_explain,
        answers=wire.Explanation,
        asks=asked.ExplainAsked,
    ),
    Route(
        method="POST",
        path="/invalidate",
        summary="Make entries unreachable: by file, project, tag, key, pattern, or all.",
        call=_invalidate,
        answers=Invalidated,
        asks=asked.InvalidateAsked,
        place="body",
    ),
    Route(
        method="POST",
        path="/coherency",
        summary="Compare this process's L1 with the shared tier, and heal what differs.",
        call=_coherency,
        answers=Coherency,
        asks=asked.CoherencyAsked,
        place="body",
    ),
)
