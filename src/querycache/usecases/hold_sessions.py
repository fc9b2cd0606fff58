"""Hold sessions: who is there, for how long, in which project."""

from __future__ import annotations

import secrets

import msgspec

from querycache.clock import Clock
from querycache.ports.access import Audit

_ID_BYTES = 32


class Session(msgspec.Struct):
    """Somebody's session. Times in wall seconds; `seen` is the monotonic time of its last use."""

    user_id: str
    project_context: str
    created_at: float
    last_activity: float
    seen: float


class HoldSessions:
    """The use case. Sessions live in this process; `active` is the live mapping, and clearing it
    ends them all.
    """

    def __init__(self, clock: Clock, audit: Audit, timeout_s: float) -> None:
        self._clock = clock
        self._audit = audit
        self._timeout_s = timeout_s
        self.active: dict[str, Session] = {}

    def create(self, user: str, project: str) -> str:
        """A new session's id: 256 random bits."""
        self._drop_idle()
        name = secrets.token_urlsafe(_ID_BYTES)
        now = self._clock.wall()
        self.active[name] = Session(user, project, now, now, self._clock.monotonic())
        self._audit.write(user, "session", "done", project=project, key=name)
        return name

    def use(self, name: str) -> Session | None:
        """The session of an id, which lives on; None where it is unknown, over or was cleared."""
        self._drop_idle()
        session = self.active.get(name)
        if session is None:
            self._audit.write("", "session", "denied", key=name)
            return None
        session.last_activity, session.seen = self._clock.wall(), self._clock.monotonic()
        return session

    def end(self, name: str) -> bool:
        """Whether there was one."""
        return self.active.pop(name, None) is not None

    def _drop_idle(self) -> None:
        now = self._clock.monotonic()
        for name, session in list(self.active.items()):  # one C call: atomic among threads
            if now - session.seen >= self._timeout_s:
                self.active.pop(name, None)
