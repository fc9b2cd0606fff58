"""What is asked over HTTP: one struct for each question."""

from __future__ import annotations

from typing import Annotated

import msgspec

from querycache.ports.origins import Mode
from querycache.values import Kind

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=10_000)]
Name = Annotated[str, msgspec.Meta(max_length=200)]
Path = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question. Fields that it does not have are refused."""


class NothingAsked(Asked, frozen=True):
    """A question without parameters."""


class SearchAsked(Asked, frozen=True):
    """A search. Without `project`: that of the served folder, else the only one."""

    query: Text
    project: Name = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10
    mode: Mode = "hybrid"
    language: Name = ""
    path: Annotated[str, msgspec.Meta(max_length=1000, description="A glob over paths.")] = ""


class IndexAsked(Asked, frozen=True):
    """A local folder to index; `force` reads files that look unchanged, too."""

    path: Path
    project: Name = ""
    force: bool = False


class WarmAsked(Asked, frozen=True):
    """A project to warm up: with `queries`, else with what was asked most; until `budget_s`
    seconds are over, or memory grew by `budget_mb` MiB.
    """

    project: Name = ""
    queries: Annotated[list[Text], msgspec.Meta(max_length=1000)] | None = None
    budget_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 30.0
    budget_mb: Annotated[float, msgspec.Meta(ge=0)] | None = None


class InvalidateAsked(Asked, frozen=True):
    """What to invalidate: exactly one of these."""

    file: Path | None = None
    project: Name | None = None
    tag: Name | None = None
    key: Path | None = None
    pattern: Annotated[
        str | None, msgspec.Meta(description="A glob: `search:*`, `codebase_rag:*:shop:*`.")
    ] = None
    all: bool = False


class KeysAsked(Asked, frozen=True):
    """Which keys to count."""

    kind: Kind | None = None
    project: Name | None = None


class ExplainAsked(Asked, frozen=True):
    """A full name, or a caller's own key."""

    key: Path


class ForgetAsked(Asked, frozen=True):
    """A project to forget."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class CoherencyAsked(Asked, frozen=True):
    """How many entries to compare: all, or a sample of `limit`."""

    limit: Annotated[int, msgspec.Meta(ge=0, description="0: all entries.")] = 0
