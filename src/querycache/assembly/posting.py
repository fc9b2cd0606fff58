"""What this process tells those of other machines that share its Redis, and what they tell."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec

from querycache.errors import TierError
from querycache.observe.registry import Published

if TYPE_CHECKING:
    from querycache.assembly.cases import UseCases

_EVERY_S = 5.0
_LIVES_S = 20.0


class _Post(msgspec.Struct, frozen=True):
    """A process's totals. `home` tells apart the homes of a machine, without naming them."""

    host: str
    home: str
    pid: int
    started: float
    door: str
    at: float
    snapshot: msgspec.Raw


class Posting:
    """One process's post, renewed every 5 s; gone 20 s after the last one."""

    def __init__(self, parts: UseCases) -> None:
        self._parts = parts
        self._name = secrets.token_hex(8)
        self._host = socket.gethostname()
        self._home = sha256(str(parts.config.home).encode()).hexdigest()[:12]
        self._used = parts.config.l2_backend == "redis"
        self._due = parts.clock.monotonic()
        self._posted = False

    async def turn(self) -> None:
        """Posts, where it is time for it."""
        now, parts = self._parts.clock.monotonic(), self._parts
        if not self._used or now < self._due:
            return
        self._due = now + _EVERY_S
        post = _Post(
            host=self._host,
            home=self._home,
            pid=parts.registry.pid,
            started=parts.started_at,
            door=parts.door,
            at=parts.clock.wall(),
            snapshot=msgspec.Raw(msgspec.json.encode(parts.status.snapshot())),
        )
        with suppress(TierError):  # health tells of it
            await parts.core.l2.post(self._name, msgspec.json.encode(post), _LIVES_S)
            self._posted = True

    async def elsewhere(self) -> list[Published]:
        """The living processes of other machines, and of other homes of this one; none while Redis
        does not answer.
        """
        if not self._used:
            return []
        posts: dict[str, bytes] = {}
        with suppress(TierError):
            posts = await self._parts.core.l2.posts()
        found: list[Published] = []
        for data in posts.values():
            try:
                post = msgspec.json.decode(data, type=_Post)
                snapshot = msgspec.json.decode(post.snapshot)
            except (msgspec.MsgspecError, ValueError):  # of another version
                continue
            if (post.host, post.home) != (self._host, self._home):
                document = {"snapshot": snapshot}
                found.append(
                    Published(post.pid, post.started, post.door, post.at, document, post.host)
                )
        return sorted(found, key=lambda told: (told.host, told.started, told.pid))

    async def close(self) -> None:
        """Takes the post down."""
        if self._posted:
            self._posted = False
            with suppress(TierError):
                await self._parts.core.l2.post(self._name, b"", 0.0)
