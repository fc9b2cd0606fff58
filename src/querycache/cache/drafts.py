"""A value on its way into the tiers, and how it is sealed for L2."""

from __future__ import annotations

import msgspec

from querycache.cache.generations import Stamps
from querycache.cache.policy import Policy
from querycache.errors import UnsupportedValueError
from querycache.ports.codec import Body, Codec, Record
from querycache.ports.tiers import Write

LOCAL = -1
"""The guard of a load that was preceded by a look at a write that waits in this process: no tier
gives it, and the claim alone decides.
"""


class Draft(msgspec.Struct, frozen=True):
    """A value on its way into the tiers.

    `stamps`, `guard` and `claim` were taken before its load began; `guard` is None for a caller's
    own write. Without `reach_l2` it stays in this process. `started` (monotonic) and `born` (wall)
    are the start of the load, in seconds.
    """

    key: str
    value: object
    body: Body
    policy: Policy
    stamps: Stamps
    guard: int | None
    claim: object
    started: float
    born: float
    load_s: float
    fresh: float
    usable: float
    reach_l2: bool = True


def sealed(draft: Draft, codec: Codec) -> Write | None:
    """A draft as L2 takes it; None for what no envelope holds (tags or names beyond bounds)."""
    record = Record(
        key=draft.key,
        body=draft.body,
        born=draft.born,
        fresh_until=draft.born + draft.fresh,
        expires_at=draft.born + draft.usable,
        load_s=draft.load_s,
        tags=draft.stamps,
    )
    try:
        data = codec.seal(record, draft.policy.shape)
    except UnsupportedValueError:
        return None
    tags = tuple(tag for tag, _ in draft.stamps)
    told = not draft.policy.immutable
    guard = draft.guard if told else None
    return Write(draft.key, data, record.expires_at, tags, guard, told)
