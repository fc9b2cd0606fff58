"""Makes the entries that go into L1: what a record or a draft says, in this process's time."""

from __future__ import annotations

from querycache.cache.decide import calm
from querycache.cache.generations import Stamps
from querycache.cache.policy import Policy
from querycache.ports.codec import Body
from querycache.ports.tally import Tally
from querycache.ports.tiers import Entry


def entry_for(  # noqa: PLR0913 -- a record
    key: str,
    value: object,
    *,
    policy: Policy,
    now: float,
    age: float,
    fresh_left: float,
    usable_left: float,
    l1_life: float,
    load_s: float,
    tags: Stamps,
    world: int,
    tally: Tally,
    weight: int,
) -> Entry:
    """An entry that is `age` seconds old at `now` (monotonic) and has these lives left; in L1 it
    lives for `l1_life` at most.

    Equal times are one object: an entry's times are a good part of what it weighs.
    """
    expires = now + min(usable_left, policy.l1_ttl, l1_life)
    fresh_until = expires if fresh_left >= usable_left else min(now + fresh_left, expires)
    settled_until = fresh_until
    if policy.beta:
        quiet = calm(policy, fresh_left=fresh_until - now, load_s=load_s)
        settled_until = min(now + quiet, fresh_until)
    return Entry(
        key,
        value,
        packed=isinstance(value, Body),
        expires=expires,
        fresh_until=fresh_until,
        settled_until=settled_until,
        born=now - age,
        load_s=load_s,
        tags=tags,
        world=world,
        tally=tally,
        weight=weight,
    )
