"""Control access: grant and revoke rights to a project, refuse who has none, and write it down."""

from __future__ import annotations

from querycache.errors import AccessDeniedError, UsageError
from querycache.ports.access import Audit, Granted, GrantStore, Right

_RIGHTS: tuple[Right, ...] = ("read", "write")


class ControlAccess:
    """The use case. A user may do what was granted, and nothing else; the empty user is the owner
    of this process, who may do all.
    """

    def __init__(self, grants: GrantStore, audit: Audit) -> None:
        self._grants = grants
        self._audit = audit

    def grant(self, project: str, user: str, *rights: Right) -> None:
        """Lets a user read and write a project, or (with `rights`) what is named, beside what was
        granted before. Raises `UsageError`.
        """
        if not project or not user or not set(rights) <= set(_RIGHTS):
            raise UsageError(
                "a grant needs a project, a user, and rights of: " + ", ".join(_RIGHTS),
                remedy='for example: grant("shop", "ada", "read")',
            )

        def change(granted: Granted) -> Granted:
            users = dict(granted.get(project, {}))
            kept = {*users.get(user, ()), *(rights or _RIGHTS)}
            users[user] = tuple(right for right in _RIGHTS if right in kept)
            return {**granted, project: users}

        self._grants.update(change)
        self._audit.write(user, f"grant {' '.join(rights or _RIGHTS)}", "done", project=project)

    def revoke(self, project: str, user: str) -> bool:
        """Takes all rights to a project from a user; whether there were any."""
        had = bool(self.rights(project, user))

        def change(granted: Granted) -> Granted:
            users = {name: own for name, own in granted.get(project, {}).items() if name != user}
            others = {name: own for name, own in granted.items() if name != project}
            return {**others, project: users} if users else others

        self._grants.update(change)
        self._audit.write(user, "revoke", "done", project=project)
        return had

    def clear(self, project: str = "") -> None:
        """Takes all rights to a project (empty: to all projects) from everyone."""

        def change(granted: Granted) -> Granted:
            kept = granted.items() if project else ()
            return {name: users for name, users in kept if name != project}

        self._grants.update(change)
        self._audit.write("", "clear grants", "done", project=project)

    def rights(self, project: str, user: str) -> tuple[Right, ...]:
        """What a user may do with a project."""
        return self._grants.read().get(project, {}).get(user, ()) if user else _RIGHTS

    def require(self, project: str, user: str, right: Right, key: str = "") -> None:
        """Raises `AccessDeniedError` where a user lacks a right, and writes that down."""
        if right in self.rights(project, user):
            return
        self._audit.write(user, right, "denied", project=project, key=key)
        raise AccessDeniedError(
            f"{user!a} may not {right} in project {project!a}",
            remedy="have its owner grant it: ProjectIsolationManager.grant(project, user)",
        )
