"""File parses: addressed by content, language and parser version, so never stale, and shared."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from querycache.cache.policy import Policy
from querycache.cache.two_tier import TwoTier
from querycache.cache.typed import TypedCache
from querycache.keys import Namer, Scope
from querycache.ports.codec import Form
from querycache.ports.origins import ParsedFile
from querycache.values import Kind


class ParseKey(NamedTuple):
    """`version` is the parser's; `language` follows from the path."""

    version: str
    language: str
    content_hash: str


def file_parses(
    core: TwoTier, namer: Namer, policy: Policy, scope: Scope
) -> TypedCache[ParseKey, ParsedFile]:
    """Files cut into chunks."""
    shape = msgspec.structs.replace(policy.shape, form=Form.STRUCT, type=ParsedFile)
    rules = msgspec.structs.replace(policy, kind=Kind.FILE, immutable=True, shape=shape)
    return TypedCache(core, namer, rules, parts=tuple, scope=scope)
