"""Links and administrations of real servers, made from settings as an application makes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import gettempdir

from tests.redis_kit import until

from querycache.assembly.redis import administration, make_link
from querycache.clock import SystemClock
from querycache.config import Config, load_config
from querycache.errors import TierError
from querycache.ports.administration import Administration
from querycache.tiers.redis.greeting import pack
from querycache.tiers.redis.link import Greeting, Link, Reply, Request, UnreachableError

TRACKED = Greeting(prefixes=(b"p:",))


class Heard:
    """What the connections of a link live through, in order."""

    def __init__(self) -> None:
        self.joins: list[str] = []
        self.lost: list[str] = []
        self.gone: list[str] = []
        self.names: list[bytes] = []
        self.late: list[str] = []

    def joined(self, channel: object, *, late: bool = False) -> None:
        self.joins.append(where(channel))
        if late:
            self.late.append(where(channel))

    def left(self, channel: object, *, gone: bool) -> None:
        (self.gone if gone else self.lost).append(where(channel))

    def heard(self, push: list[object]) -> None:
        if isinstance(push[1], list):
            self.names += [name for name in push[1] if isinstance(name, bytes)]  # pyright: ignore[reportUnknownVariableType]


def where(channel: object) -> str:
    return str(getattr(channel, "where", ""))


def config(**environ: str) -> Config:
    return load_config({"HOME": gettempdir(), **environ}, Path("/")).config


@asynccontextmanager
async def link_to(
    heard: Heard | None = None, greeting: Greeting = TRACKED, /, **environ: str
) -> AsyncGenerator[Link]:
    link = make_link(config(**environ), SystemClock())(greeting, heard)
    try:
        yield link
    finally:
        await link.close()


def admin(**environ: str) -> Administration:
    return administration(config(**environ))


def get(name: str) -> Request:
    return Request(name.encode(), pack("GET", name))


def put(name: str, value: str) -> Request:
    return Request(name.encode(), pack("SET", name, value))


async def ask(link: Link, request: Request) -> Reply:
    (reply,) = await link.call(request)
    return reply


async def refused(link: Link, request: Request | None = None) -> TierError:
    """The error that a request ends with."""
    try:
        await link.call(request or get("a"))
    except TierError as error:
        return error
    raise AssertionError("it was answered")


async def refused_as(link: Link, code: str) -> UnreachableError:
    """The error of requests as soon as it is of that kind."""
    found: list[UnreachableError] = []

    async def so() -> bool:
        error = await refused(link)
        if isinstance(error, UnreachableError) and error.code == code:
            found.append(error)
        return bool(found)

    await until(so, f"refused as {code}")
    return found[0]


async def works(link: Link, request: Request, reply: Reply, patience_s: float = 10) -> float:
    """Seconds until the request gets that reply; errors are no answer."""
    started = asyncio.get_running_loop().time()

    async def answered() -> bool:
        try:
            return await ask(link, request) == reply
        except TierError:
            return False

    await until(answered, f"{request} -> {reply!r}", patience_s)
    return asyncio.get_running_loop().time() - started
