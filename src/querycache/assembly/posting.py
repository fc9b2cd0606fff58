"""What this process tells those of other machines that share its Redis, and what they tell."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, cast, get_args

import msgspec

from querycache.errors import TierError
from querycache.events import MissReason
from querycache.observe.registry import Published
from querycache.usecases.show_status.counts import Snapshot
from querycache.values import Kind

if TYPE_CHECKING:
    from querycache.assembly.cases import UseCases

_EVERY_S = 5.0
_LIVES_S = 20.0
_MOST = 2**53  # beyond it, JSON's numbers are not exact
_REASONS: tuple[str, ...] = get_args(MissReason)

_Name = Annotated[str, msgspec.Meta(max_length=255)]
_Time = Annotated[float, msgspec.Meta(ge=0.0, le=1e11)]


class _Post(msgspec.Struct, frozen=True):
    """A process's totals. `home` tells apart the homes of a machine, without naming them."""

    host: _Name
    home: _Name
    pid: Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
    started: _Time
    door: _Name
    at: _Time
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
                snapshot = _plausible(post.snapshot)
            except (
                msgspec.MsgspecError,
                ValueError,
                RecursionError,
            ):  # another version, a stranger
                continue
            if (post.host, post.home) != (self._host, self._home):
                document: dict[str, object] = {"snapshot": snapshot}
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


def _plausible(data: bytes) -> object:
    """What was told of a process, without kinds and reasons that there are not: whoever may write
    to Redis may have told it. Raises `ValueError` for numbers that nothing counts to.
    """
    told = msgspec.json.decode(data, type=Snapshot)
    kinds = {kind: told.kinds[kind] for kind in map(str, Kind) if kind in told.kinds}
    for counts in kinds.values():
        counts.reasons = {why: counts.reasons[why] for why in _REASONS if why in counts.reasons}
    plain: object = msgspec.to_builtins(msgspec.structs.replace(told, kinds=kinds))
    if not _counted(plain):
        raise ValueError("no process counts that")
    return plain


def _counted(value: object) -> bool:
    """Whether each number within may be a count, or a time."""
    if isinstance(value, dict):
        return all(map(_counted, cast("dict[str, object]", value).values()))
    if isinstance(value, list):
        return all(map(_counted, cast("list[object]", value)))
    return not isinstance(value, int | float) or 0 <= value <= _MOST
