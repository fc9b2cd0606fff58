"""The HTTP application: routes, pages and MCP behind one guard, and the server that runs it."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path

import msgspec
from starlette import routing
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from querycache.assembly.app import App
from querycache.doors.dashboard.live import Live
from querycache.doors.http_api import routes_dashboard
from querycache.doors.http_api.asked import Asked, NothingAsked
from querycache.doors.http_api.connection import Server, listen
from querycache.doors.http_api.guard import LOCAL_NAMES, UNEXPECTED, Guard, failure
from querycache.doors.http_api.metrics_port import beside
from querycache.doors.http_api.openapi import document
from querycache.doors.http_api.route import Route, Served, Text, status_of
from querycache.doors.http_api.routes import ROUTES
from querycache.doors.http_api.routes_metrics import ROUTES as METRICS
from querycache.doors.mcp_server.background import living
from querycache.doors.mcp_server.first_run import FirstRun
from querycache.doors.mcp_server.logs import log_to_stderr
from querycache.doors.mcp_server.server import mcp_server, over_http
from querycache.errors import NotAvailableError, QueryCacheError, UsageError

_STATIC = Path(__file__).parent / "static"
_PAGES = {
    "/docs": ("docs.html", "text/html; charset=utf-8"),
    "/docs/docs.css": ("docs.css", "text/css; charset=utf-8"),
    "/docs/docs.js": ("docs.js", "text/javascript; charset=utf-8"),
}

_INDEXING_S = 30.0

_logger = logging.getLogger(__name__)


def create_app(
    app: App, *, roots: Sequence[str] = (), watch: bool = True, names: Sequence[str] = ()
) -> Starlette:
    """The application. Its lifespan indexes and watches `roots`; `names` are host names that are
    served beside the local ones.
    """
    ours = (*LOCAL_NAMES, *names)
    served = Served(app, FirstRun(roots, _INDEXING_S))
    live, token = Live(app), app.config.safety.token.reveal()

    async def the_app() -> App:
        return app

    mcp = over_http(mcp_server(the_app, roots), ours)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[Mapping[str, Callable[[], None]]]:
        async with living(app, roots, watch=watch), mcp.running(), live.running():
            yield {"ending": live.end}

    application = Starlette(
        routes=[
            *(
                routing.Route(route.path, _endpoint(served, route), methods=[route.method])
                for route in ROUTES
            ),
            routing.Route(
                "/openapi.json",
                _constant(
                    msgspec.json.encode(document(ROUTES, version("querycache"))),
                    "application/json",
                ),
                methods=["GET"],
            ),
            *(
                routing.Route(
                    path, _constant((_STATIC / name).read_bytes(), kind), methods=["GET"]
                )
                for path, (name, kind) in _PAGES.items()
            ),
            *routes_dashboard.routes(live, with_token=bool(token)),
            routing.Route("/mcp", mcp.endpoint, methods=["POST"]),
        ],
        middleware=[Middleware(Guard, names=ours, token=token, open_pages=routes_dashboard.PAGES)],
        exception_handlers={HTTPException: _not_routed},
        lifespan=lifespan,
    )
    application.router.redirect_slashes = False
    return application


def metrics_app(app: App, names: Sequence[str] = ()) -> Starlette:
    """The routes for metrics alone, behind the same guard."""
    served = Served(app, FirstRun((), _INDEXING_S))
    token = app.config.safety.token.reveal()
    return Starlette(
        routes=[
            routing.Route(route.path, _endpoint(served, route), methods=[route.method])
            for route in METRICS
        ],
        middleware=[Middleware(Guard, names=(*LOCAL_NAMES, *names), token=token)],
        exception_handlers={HTTPException: _not_routed},
    )


async def serve(  # noqa: PLR0913 -- the options of the command
    app: App,
    roots: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    metrics_port: int | None = None,
    watch: bool = True,
    names: Sequence[str] = (),
    started: Callable[[str], None] = lambda _: None,
) -> None:
    """Serves until SIGINT or SIGTERM. `started` is told the address when requests are answered;
    `names` are host names that are served beside the local ones and `host`; the routes for metrics
    are also served on `metrics_port`.

    Raises `NotAvailableError` for an address that can't be listened on, `UsageError` for a root
    that is no folder and a
    `host` that other machines can reach while no token is set.
    """
    log_to_stderr(app.config.watch.log_level, app.config.watch.log_format)
    for root in roots:
        await asyncio.to_thread(app.find_project.name_for, root)
    has_token = bool(app.config.safety.token)
    listener = await asyncio.to_thread(_listener, host, port, has_token)
    address, bound = listener.getsockname()[:2]
    ours = (*names, *await asyncio.to_thread(_own_names, host, address))
    server = Server(
        create_app(app, roots=roots, watch=watch, names=ours),
        lambda: started(f"http://{_bracketed(host)}:{bound}"),
    )
    try:
        plotted = None
        if metrics_port is not None:
            plotted = await asyncio.to_thread(_listener, host, metrics_port, has_token)
        async with beside(metrics_app(app, ours), plotted):
            await server.serve(sockets=[listener])
    finally:
        listener.close()


def _listener(host: str, port: int, has_token: bool) -> socket.socket:  # noqa: FBT001 -- a fact
    try:
        made = listen(host, port)
    except (OSError, OverflowError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        raise NotAvailableError(
            f"can't listen on {host}:{port}: {getattr(error, 'strerror', None) or error}",
            remedy="take another --port, or end what listens there"
            if taken
            else "take another --host or --port",
        ) from error
    if has_token or ipaddress.ip_address(made.getsockname()[0]).is_loopback:
        return made
    made.close()
    raise UsageError(
        f"{host} can be reached by other machines, and no token is set",
        remedy="set QUERYCACHE_TOKEN, or serve on 127.0.0.1",
    )


def _own_names(host: str, address: str) -> set[str]:
    """The host names under which a listening address is reached."""
    if not ipaddress.ip_address(address).is_unspecified:
        return {_bracketed(host), _bracketed(address)}
    names = {socket.gethostname(), socket.getfqdn()}
    with suppress(OSError):
        found = socket.getaddrinfo(socket.gethostname(), None)
        names |= {_bracketed(str(row[4][0]).partition("%")[0]) for row in found}
    return names


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _endpoint(served: Served, route: Route) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            with served.app.tracing.span(f"{route.method} {route.path}"):
                reply = await route.call(served, await _asked(route, request))
        except QueryCacheError as error:
            status = status_of(error)
            if status is HTTPStatus.INTERNAL_SERVER_ERROR:
                _logger.exception("%s %s failed", route.method, route.path)
            return _failed(status, type(error).__name__, str(error), error.remedy)
        except Exception:
            _logger.exception("%s %s failed", route.method, route.path)
            return _failed(UNEXPECTED.status, UNEXPECTED.name, UNEXPECTED.message)
        said = reply.answer
        body = said.text.encode() if isinstance(said, Text) else msgspec.json.encode(said)
        return Response(body, reply.status, reply.headers, route.media)

    return answer


async def _asked(route: Route, request: Request) -> Asked:
    """What a request asks. Raises `UsageError`."""
    try:
        if route.place == "body":
            return msgspec.json.decode(await request.body(), type=route.asks)
        if route.place == "path":
            return msgspec.convert(request.path_params, route.asks)
        given = request.query_params.multi_items() if route.asks is not NothingAsked else []
        if len(dict(given)) < len(given):
            raise UsageError("a parameter is given twice", remedy="give it once")
        return msgspec.convert(dict(given), route.asks, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(
            f"the request can't be read: {error}", remedy="/docs says what is asked for"
        ) from error


async def _not_routed(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    status = HTTPStatus(error.status_code)
    name = status.phrase.title().replace(" ", "")
    response = _failed(status, name, status.description, "/docs lists what there is")
    response.headers.update(error.headers or {})
    return response


def _failed(status: HTTPStatus, name: str, message: str, remedy: str = "") -> Response:
    return Response(failure(name, message, remedy), status, media_type="application/json")


def _constant(body: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        return Response(body, media_type=kind)

    return answer
