"""Embeddings: addressed by what they depend on (model, role, text), so never stale, and shared."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from querycache.cache.policy import Policy
from querycache.cache.two_tier import TwoTier
from querycache.cache.typed import TypedCache
from querycache.keys import Namer, Scope
from querycache.ports.codec import Form, Shape
from querycache.ports.origins import Role
from querycache.values import Kind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]


class EmbeddingKey(NamedTuple):
    """`identity` names the model and all that its vectors depend on."""

    identity: str
    role: Role
    text: str


def embeddings(
    core: TwoTier, namer: Namer, policy: Policy, scope: Scope, *, half: bool = False
) -> TypedCache[EmbeddingKey, Vector]:
    """Vectors: float32, shape (dimensions,), read-only; stored as float16 with `half`."""
    shape = Shape(form=Form.VECTOR, half=half, compress=False)
    rules = msgspec.structs.replace(policy, kind=Kind.EMBEDDING, immutable=True, shape=shape)
    return TypedCache(core, namer, rules, parts=tuple, scope=scope, version="16" if half else "32")
