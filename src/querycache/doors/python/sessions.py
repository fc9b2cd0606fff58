"""Sessions: who is there, under the guide's names.

Example:
    >>> import asyncio
    >>> from querycache import AESEncryption, KeyManager, SessionSecurityManager, get_cache_service
    >>> async def main():
    ...     service = await get_cache_service()
    ...     sessions = SessionSecurityManager(service, AESEncryption(KeyManager()))
    ...     session = sessions.create_session("ada", "shop")
    ...     sealed = await sessions.protect(session, "a secret of the shop")
    ...     return await sessions.reveal(session, sealed)
    >>> asyncio.run(main())
    b'a secret of the shop'
"""

from __future__ import annotations

import hmac
from hashlib import sha256

from querycache.doors.python.cache import CacheService
from querycache.doors.python.encryption import AESEncryption
from querycache.errors import AccessDeniedError
from querycache.usecases.hold_sessions import Session

_DIGEST = 32


class SessionSecurityManager:
    """Sessions of this process: random ids of 256 bits, which end when they were idle for
    CACHE_SESSION_TIMEOUT seconds.
    """

    def __init__(self, cache_service: CacheService, encryption: AESEncryption) -> None:
        self._sessions = cache_service.app.hold_sessions
        self._encryption = encryption

    @property
    def active_sessions(self) -> dict[str, Session]:
        """The living sessions by id; after `active_sessions.clear()` every id is refused."""
        return self._sessions.active

    def create_session(self, user_id: str, project_context: str = "") -> str:
        """A new session's id."""
        return self._sessions.create(user_id, project_context)

    def validate_session(self, session_id: str) -> Session | None:
        """The session, which lives on by that; None where the id is unknown or its time is
        over.
        """
        return self._sessions.use(session_id)

    def end_session(self, session_id: str) -> bool:
        """Whether there was one."""
        return self._sessions.end(session_id)

    async def protect(self, session_id: str, data: str | bytes) -> bytes:
        """Encrypts `data` for one living session. Raises `AccessDeniedError`."""
        self._require(session_id)
        raw = data.encode() if isinstance(data, str) else data
        return await self._encryption.encrypt(sha256(session_id.encode()).digest() + raw)

    async def reveal(self, session_id: str, sealed: bytes) -> bytes:
        """What was protected for that session. Raises `AccessDeniedError` where the session is
        over or another's, `EncryptionOperationError` where it does not open.
        """
        self._require(session_id)
        opened = await self._encryption.decrypt(sealed)
        if not hmac.compare_digest(opened[:_DIGEST], sha256(session_id.encode()).digest()):
            raise AccessDeniedError(
                "this was protected for another session", remedy="ask for it in that session"
            )
        return opened[_DIGEST:]

    def _require(self, session_id: str) -> None:
        if self._sessions.use(session_id) is None:
            raise AccessDeniedError(
                "there is no such session, or its time is over", remedy="create a new one"
            )
