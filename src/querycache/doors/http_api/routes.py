"""All routes: one declaration each, from which the server and its OpenAPI document are made."""

from __future__ import annotations

from querycache.doors.http_api import (
    routes_cache,
    routes_doctor,
    routes_metrics,
    routes_projects,
    routes_upkeep,
)

ROUTES = (
    *routes_cache.ROUTES,
    *routes_doctor.ROUTES,
    *routes_metrics.ROUTES,
    *routes_projects.ROUTES,
    *routes_upkeep.ROUTES,
)
