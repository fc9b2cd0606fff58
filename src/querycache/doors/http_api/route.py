"""What a route is, what it answers, and which status an error has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Literal

import msgspec

from querycache import errors
from querycache.assembly.app import App
from querycache.doors.http_api.asked import Asked, NothingAsked
from querycache.doors.mcp_server.first_run import FirstRun

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
    errors.AccessDeniedError: HTTPStatus.FORBIDDEN,
    errors.EncryptionOperationError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.BackupError: HTTPStatus.INTERNAL_SERVER_ERROR,
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


class Text(msgspec.Struct, frozen=True):
    """An answer that is no JSON."""

    text: str


class Reply(msgspec.Struct, frozen=True):
    """An answer, its status and its headers."""

    answer: msgspec.Struct
    status: HTTPStatus = HTTPStatus.OK
    headers: dict[str, str] = {}


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A route. `asks` is read from `place`; `statuses` may come beside 200 with the same answer,
    which is of type `media`; `headers` are those of the answer, each with what it says.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    summary: str
    call: Callable[[Served, Any], Awaitable[Reply]]
    answers: type[msgspec.Struct]
    asks: type[Asked] = NothingAsked
    place: Literal["query", "path", "body"] = "query"
    statuses: tuple[HTTPStatus, ...] = ()
    media: str = "application/json"
    headers: dict[str, str] = {}
