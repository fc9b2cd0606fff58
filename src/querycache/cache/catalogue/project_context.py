"""Project context: what a project consists of, addressed by its index's digest."""

from __future__ import annotations

import msgspec

from querycache.cache.policy import Policy
from querycache.cache.two_tier import TwoTier
from querycache.cache.typed import TypedCache, derived_tag
from querycache.keys import Namer, Scope
from querycache.ports.codec import Form
from querycache.values import Kind


class Overview(msgspec.Struct, frozen=True, gc=False):
    """A project at a glance: files by language and by top-level folder, most first."""

    files: int
    bytes: int
    languages: tuple[tuple[str, int], ...]
    folders: tuple[tuple[str, int], ...]


def project_context(
    core: TwoTier, namer: Namer, policy: Policy, scope: Scope
) -> TypedCache[str, Overview]:
    """Overviews of one project, by digest."""
    shape = msgspec.structs.replace(policy.shape, form=Form.STRUCT, type=Overview)
    rules = msgspec.structs.replace(policy, kind=Kind.PROJECT, immutable=True, shape=shape)
    return TypedCache(
        core,
        namer,
        rules,
        parts=lambda digest: (digest,),
        scope=scope,
        tags=(derived_tag(scope.project),),
    )
