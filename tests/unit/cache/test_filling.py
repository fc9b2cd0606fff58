"""Entries in this process's time."""

from __future__ import annotations

from querycache.cache.filling import entry_for
from querycache.cache.policy import Policy
from querycache.ports.codec import Body, Form
from querycache.ports.tally import Tally
from querycache.ports.tiers import Entry


def made(policy: Policy, *, fresh: float, usable: float, load: float = 0.0) -> Entry:
    return entry_for(
        "k",
        "v",
        policy=policy,
        now=1000.0,
        age=5.0,
        fresh_left=fresh,
        usable_left=usable,
        l1_life=float("inf"),
        load_s=load,
        tags=(),
        world=1,
        tally=Tally(),
        weight=1,
    )


def test_lives_and_age() -> None:
    entry = made(Policy(), fresh=10.0, usable=50.0)
    assert (entry.born, entry.fresh_until, entry.expires) == (995.0, 1010.0, 1050.0)
    assert entry.settled_until == entry.fresh_until
    assert not entry.packed


def test_l1_keeps_nothing_longer_than_it_may() -> None:
    entry = made(Policy(l1_ttl=20.0), fresh=40.0, usable=50.0)
    assert (entry.fresh_until, entry.expires) == (1020.0, 1020.0)


def test_equal_times_are_one_object() -> None:
    entry = made(Policy(), fresh=50.0, usable=50.0)
    assert entry.expires is entry.fresh_until is entry.settled_until


def test_early_refresh_wants_a_decision_before_the_end() -> None:
    entry = made(Policy(beta=1.0), fresh=50.0, usable=50.0, load=2.0)
    assert entry.settled_until == 1026.0


def test_an_encoded_body_is_packed() -> None:
    body = Body(b"\x90", Form.MSGPACK, shareable=False)
    entry = entry_for(
        "k",
        body,
        policy=Policy(),
        now=0.0,
        age=0.0,
        fresh_left=1.0,
        usable_left=1.0,
        load_s=0.0,
        l1_life=float("inf"),
        tags=(),
        world=0,
        tally=Tally(),
        weight=1,
    )
    assert entry.packed
