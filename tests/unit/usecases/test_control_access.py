from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querycache.errors import AccessDeniedError, UsageError
from querycache.ports.access import Granted, Outcome
from querycache.usecases.control_access import ControlAccess


class InMemory:
    def __init__(self) -> None:
        self.granted: Granted = {}

    def read(self) -> Granted:
        return self.granted

    def update(self, change: Callable[[Granted], Granted]) -> None:
        self.granted = change(self.granted)


class Written:
    def __init__(self) -> None:
        self.rows: list[tuple[str, str, Outcome, str]] = []

    def write(
        self, who: str, what: str, outcome: Outcome, *, project: str = "", key: str = ""
    ) -> None:
        del key
        self.rows.append((who, what, outcome, project))


def access() -> tuple[ControlAccess, Written]:
    written = Written()
    return ControlAccess(InMemory(), written), written


def test_a_user_may_what_was_granted_and_nothing_else() -> None:
    control, written = access()
    control.grant("shop", "ada", "read")
    control.require("shop", "ada", "read")
    for project, user, right in (("shop", "ada", "write"), ("bank", "ada", "read")):
        with pytest.raises(PermissionError, match="may not"):
            control.require(project, user, right)  # type: ignore[arg-type]
    with pytest.raises(AccessDeniedError):
        control.require("shop", "eve", "read")
    denied = [row for row in written.rows if row[2] == "denied"]
    assert denied == [
        ("ada", "write", "denied", "shop"),
        ("ada", "read", "denied", "bank"),
        ("eve", "read", "denied", "shop"),
    ]


def test_the_owner_may_all() -> None:
    control, _ = access()
    control.require("shop", "", "write")


def test_rights_are_taken_back() -> None:
    control, _ = access()
    control.grant("shop", "ada")
    control.grant("bank", "ada")
    assert control.revoke("shop", "ada")
    assert not control.revoke("shop", "ada")
    assert control.rights("bank", "ada") == ("read", "write")
    control.clear()
    assert control.rights("bank", "ada") == ()


def test_clearing_one_project_leaves_the_others() -> None:
    control, _ = access()
    control.grant("shop", "ada")
    control.grant("bank", "ada", "read")
    control.clear("shop")
    assert (control.rights("shop", "ada"), control.rights("bank", "ada")) == ((), ("read",))


@pytest.mark.parametrize(
    ("project", "user", "rights"), [("", "ada", ()), ("shop", "", ()), ("shop", "ada", ("own",))]
)
def test_a_grant_names_everything(project: str, user: str, rights: tuple[str, ...]) -> None:
    control, _ = access()
    with pytest.raises(UsageError, match="a grant needs"):
        control.grant(project, user, *rights)  # type: ignore[arg-type]


@given(st.text(min_size=1), st.text(min_size=1), st.text(min_size=1), st.text(min_size=1))
def test_no_grant_reaches_another_project_or_user(
    project: str, user: str, other: str, stranger: str
) -> None:
    control, _ = access()
    control.grant(project, user)
    if (other, stranger) != (project, user):
        with pytest.raises(AccessDeniedError):
            control.require(other, stranger, "read")
