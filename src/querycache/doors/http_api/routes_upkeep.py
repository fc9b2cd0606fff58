"""The routes of upkeep: cleaning up. Back-ups name files, and so are no routes."""

from __future__ import annotations

from typing import Annotated

import msgspec

from querycache.doors.http_api.asked import Asked
from querycache.doors.http_api.route import Reply, Route, Served
from querycache.usecases.clean_up import Cleaned
from querycache.values import Kind


class CleanAsked(Asked, frozen=True):
    """Which kinds to clean: one or more."""

    kinds: Annotated[list[Kind], msgspec.Meta(min_length=1, max_length=len(Kind))]


async def _clean(served: Served, question: CleanAsked) -> Reply:
    return Reply(await served.app.clean_up(question.kinds))


ROUTES = (
    Route(
        method="POST",
        path="/clean",
        summary="Delete all entries of some kinds, in every process.",
        call=_clean,
        answers=Cleaned,
        asks=CleanAsked,
        place="body",
    ),
)
