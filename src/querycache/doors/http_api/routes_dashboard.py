"""The routes of the dashboard: its page, and the stream that the page follows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from http import HTTPStatus

from starlette import routing
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from querycache.doors.dashboard.live import AGAIN_MS, MOST_FOLLOWERS, Live
from querycache.doors.dashboard.page import FILES, STATIC, shell
from querycache.doors.http_api.guard import failure

PAGES = {"/", *FILES}
"""What is served without a token: the page holds no figure then."""

_SENT_WITHIN_S = 10.0


def routes(live: Live, *, with_token: bool) -> list[routing.Route]:
    """The routes; `with_token`: whoever opens the page is asked for it."""

    async def opened(_: Request) -> Response:
        text = shell() if with_token else await live.page()
        return Response(text, media_type="text/html; charset=utf-8")

    async def followed(request: Request) -> Response:
        following = _Following(live)
        return following if request.method == "GET" else Response(headers=following.headers)

    return [
        routing.Route("/", opened, methods=["GET"]),
        routing.Route("/events", followed, methods=["GET"]),
        *(
            routing.Route(path, _file((STATIC / name).read_bytes(), kind), methods=["GET"])
            for path, (name, kind) in FILES.items()
        ),
    ]


class _Following(Response):
    """A stream for as long as the client reads it; 503 where too many follow already."""

    media_type = "text/event-stream"

    def __init__(self, live: Live) -> None:
        super().__init__()
        self._live = live
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._live.followers >= MOST_FOLLOWERS:
            await _refused(scope, receive, send)
            return
        self._live.followers += 1
        gone = asyncio.ensure_future(_gone(receive))
        try:
            start = {"type": "http.response.start", "status": HTTPStatus.OK}
            await send({**start, "headers": self.raw_headers})
            async with aclosing(self._live.stream(gone)) as stream:
                async for data in stream:
                    async with asyncio.timeout(_SENT_WITHIN_S):
                        await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            return  # it does not read: the server closes the connection
        finally:
            self._live.followers -= 1
            gone.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refused(scope: Scope, receive: Receive, send: Send) -> None:
    body = failure(
        "TooManyFollowers", f"{MOST_FOLLOWERS} follow already", "close a dashboard somewhere"
    )
    headers = {"Retry-After": str(AGAIN_MS // 1000)}
    status = HTTPStatus.SERVICE_UNAVAILABLE
    await Response(body, status, headers, "application/json")(scope, receive, send)


def _file(body: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        return Response(body, media_type=kind)

    return answer
