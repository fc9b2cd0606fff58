"""Whom each policy gives up."""

from __future__ import annotations

from random import Random

import pytest
from tests.behaviour.l1_suite import made

from querycache.ports.tiers import Entry
from querycache.tiers.eviction import POLICIES, Policy


def policy_of(name: str, size: int = 100, seed: int = 1) -> Policy:
    chance = Random(seed)  # noqa: S311 -- the same choices in every run
    return POLICIES[name](size, 1 << 40, chance)


def admitted(policy: Policy, keys: str) -> dict[str, Entry]:
    entries = {key: made(key) for key in keys}
    for entry in entries.values():
        policy.admit(entry)
    return entries


def order(policy: Policy) -> str:
    return "".join(policy.victim().key for _ in range(len(policy)))


def test_fifo_gives_up_the_oldest():
    policy = policy_of("FIFO")
    entries = admitted(policy, "abcd")
    entries["a"].hits = 9
    policy.discard(entries["b"])
    assert order(policy) == "acd"


def test_lru_gives_up_the_least_recently_used():
    policy = policy_of("LRU")
    entries = admitted(policy, "abcd")
    assert policy.touch is not None
    policy.touch(entries["a"])
    policy.touch(entries["c"])
    assert order(policy) == "bdac"


def test_lfu_gives_up_the_least_often_used_and_of_equals_the_oldest():
    policy = policy_of("LFU")
    entries = admitted(policy, "abcde")
    entries["a"].hits, entries["b"].hits, entries["d"].hits = 3, 1, 2
    policy.discard(entries["e"])
    assert order(policy) == "cbda"


def test_lfu_counts_hits_that_came_between_victims():
    policy = policy_of("LFU")
    entries = admitted(policy, "abc")
    entries["a"].hits = 1
    assert policy.victim() is entries["b"]
    entries["c"].hits = 5
    assert policy.victim() is entries["a"]


def test_lfu_counts_the_hits_that_a_replacement_brings():
    policy = policy_of("LFU")
    admitted(policy, "a")
    often = made("b")
    often.hits = 4
    policy.admit(often)
    assert order(policy) == "ab"


def test_random_repeats_with_its_seed_and_not_without():
    orders: list[str] = []
    for seed in (1, 1, 2):
        policy = policy_of("RANDOM", seed=seed)
        admitted(policy, "abcdefghijklmnop")
        orders.append(order(policy))
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == list("abcdefghijklmnop")


def test_random_gives_each_the_same_chance():
    chance, first = Random(3), dict.fromkeys("abcd", 0)  # noqa: S311 -- a stated draw
    for _ in range(4_000):
        policy = POLICIES["RANDOM"](4, 4, chance)
        admitted(policy, "abcd")
        first[policy.victim().key] += 1
    assert all(850 < count < 1_150 for count in first.values())  # 1,000 expected, sigma 27


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_gives_up_what_it_holds_once_each(name: str):
    chance, policy = Random(5), policy_of(name, 40)  # noqa: S311 -- a stated order
    held: dict[str, Entry] = {}
    for number in range(5_000):
        choice = chance.random()
        if choice < 0.5 and len(held) < 40:
            entry = made(f"k{chance.randrange(200)}")
            if entry.key not in held:
                held[entry.key] = entry
                policy.admit(entry)
        elif choice < 0.6 and held:
            policy.discard(held.pop(chance.choice(list(held))))
        elif choice < 0.8 and held:
            assert held.pop(policy.victim().key) is not None
        elif held:
            held[chance.choice(list(held))].hits += 1
        assert len(policy) == len(held)
        if number == 2_500:
            policy.clear()
            held.clear()
    assert {policy.victim().key for _ in range(len(policy))} == held.keys()
