"""A draft as L2 takes it."""

from __future__ import annotations

import msgspec

from querycache.cache.drafts import Draft, sealed
from querycache.cache.policy import Policy
from querycache.codec.pipeline import Pipeline
from querycache.values import Stamp

CODEC = Pipeline()
DRAFT = Draft(
    key="k",
    value=1,
    body=CODEC.encode(1),
    policy=Policy(),
    stamps=(("all", Stamp(1, 2)),),
    guard=7,
    claim=None,
    started=0.0,
    born=1000.0,
    load_s=0.5,
    fresh=5.0,
    usable=10.0,
)


def test_a_draft_takes_its_guard_its_tags_and_its_end_along() -> None:
    write = sealed(DRAFT, CODEC)
    assert write is not None
    assert (write.guard, write.tags, write.expires_at, write.tell) == (7, ("all",), 1010.0, True)
    record = CODEC.open("k", write.data)
    assert (record.fresh_until, record.load_s, record.tags) == (1005.0, 0.5, DRAFT.stamps)


def test_content_needs_no_guard_and_nobody_is_told() -> None:
    write = sealed(msgspec.structs.replace(DRAFT, policy=Policy(immutable=True)), CODEC)
    assert write is not None
    assert (write.guard, write.tell) == (None, False)


def test_what_no_envelope_holds_is_none() -> None:
    stamps = tuple((f"tag {place}", Stamp(1, 1)) for place in range(100_000))
    assert sealed(msgspec.structs.replace(DRAFT, stamps=stamps), CODEC) is None
