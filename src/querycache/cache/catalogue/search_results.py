"""Search results: addressed by the index's digest, so that a machine whose index holds other
content can neither serve nor store for this one.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from querycache.cache.policy import Policy
from querycache.cache.two_tier import TwoTier
from querycache.cache.typed import TypedCache, derived_tag
from querycache.keys import Namer, Scope
from querycache.ports.codec import Form
from querycache.ports.origins import Hit
from querycache.values import Kind


class SearchKey(NamedTuple):
    """All that a ranking depends on. `digest` covers content, chunker and model."""

    digest: str
    query: str
    mode: str
    limit: int
    language: str
    path: str


class Hits(msgspec.Struct, frozen=True, gc=False):
    """A ranking, best first."""

    hits: tuple[Hit, ...]


def search_results(
    core: TwoTier, namer: Namer, policy: Policy, scope: Scope
) -> TypedCache[SearchKey, Hits]:
    """Rankings of one project."""
    shape = msgspec.structs.replace(policy.shape, form=Form.STRUCT, type=Hits)
    rules = msgspec.structs.replace(policy, kind=Kind.SEARCH, immutable=True, shape=shape)
    return TypedCache(
        core,
        namer,
        rules,
        parts=lambda key: tuple(map(str, key)),
        scope=scope,
        tags=(derived_tag(scope.project),),
    )
