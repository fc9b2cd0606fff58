"""The route of the doctor."""

from __future__ import annotations

from querycache.doors.http_api import asked
from querycache.doors.http_api.route import Reply, Route, Served
from querycache.usecases.diagnose import Diagnosis


async def _doctor(served: Served, _: asked.NothingAsked) -> Reply:
    return Reply(await served.app.diagnose())


ROUTES = (
    Route(
        method="GET",
        path="/doctor",
        summary="Run every check, and tell what is wrong and what to do about it.",
        call=_doctor,
        answers=Diagnosis,
    ),
)
