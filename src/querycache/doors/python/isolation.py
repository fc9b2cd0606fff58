"""Isolation: projects apart, for users who may see some of them, under the guide's names.

Example:
    >>> import asyncio
    >>> from querycache import ProjectIsolationManager, get_cache_service
    >>> async def main():
    ...     projects = ProjectIsolationManager(await get_cache_service())
    ...     projects.grant("shop", "ada")
    ...     await projects.cache("shop", "ada").set("report", "of the shop")
    ...     return await projects.cache("shop", "ada").get("report")
    >>> asyncio.run(main())
    'of the shop'
"""

from __future__ import annotations

from collections.abc import Sequence

from querycache.doors.python.cache import CacheService
from querycache.keys import Scope
from querycache.ports.access import Right
from querycache.usecases.control_access import ControlAccess
from querycache.usecases.remember import Remember


class ProjectCache:
    """The keys of one project, as one user may use them. Each call raises `AccessDeniedError` (a
    `PermissionError`) where the user lacks the right.
    """

    def __init__(self, keys: Remember, access: ControlAccess, project: str, user: str) -> None:
        self._keys = keys
        self._access = access
        self._project = project
        self._user = user

    async def get(self, key: str) -> object:
        """The value, or None where there is none."""
        self._require("read", key)
        return await self._keys.get(key)

    async def set(
        self, key: str, value: object, ttl: float | None = None, tags: Sequence[str] = ()
    ) -> bool:
        """Stores a value; whether it can be had again."""
        self._require("write", key)
        return await self._keys.set(key, value, ttl, tags)

    async def delete(self, key: str) -> bool:
        """Whether there was one."""
        self._require("write", key)
        return await self._keys.delete(key)

    def _require(self, right: Right, key: str) -> None:
        self._access.require(self._project, self._user, right, key)


class ProjectIsolationManager:
    """Projects apart: names that never meet, and rights by project and user.

    Grants are kept under `$XDG_DATA_HOME/querycache`, for all processes of this user. Whoever is
    refused leaves a line in the audit log there.
    """

    def __init__(self, cache_service: CacheService) -> None:
        self._app = cache_service.app

    def generate_project_key(self, project: str, key: str) -> str:
        """The full name, in the shared tier, of a project's key. Two projects never share one,
        unless CACHE_PROJECT_ISOLATION is false.
        """
        return self._keys(project).name(key)

    def cache(self, project: str, user: str = "") -> ProjectCache:
        """The project's keys for a user; the empty user is the owner of this process."""
        return ProjectCache(self._keys(project), self._app.control_access, project, user)

    def grant(self, project: str, user: str, *rights: Right) -> None:
        """Lets a user "read" and "write" a project (or what is named of both)."""
        self._app.control_access.grant(project, user, *rights)

    def revoke(self, project: str, user: str) -> bool:
        """Takes all rights to a project from a user; whether there were any."""
        return self._app.control_access.revoke(project, user)

    def clear(self, project: str = "") -> None:
        """Takes the rights to a project (empty: to all) from everyone."""
        self._app.control_access.clear(project)

    def check(self, project: str, user: str, right: Right = "read") -> None:
        """Raises `AccessDeniedError` (a `PermissionError`) where the user lacks the right."""
        self._app.control_access.require(project, user, right)

    def _keys(self, project: str) -> Remember:
        app = self._app
        apart = app.config.safety.project_isolation != "false"
        scope = Scope(project) if apart else Scope()
        return Remember(app.core, app.namer, app.policies, app.config.core.batch_size, scope)
