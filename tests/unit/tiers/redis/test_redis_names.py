"""What belongs to an entry lies in its slot, and each name says what it is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from querycache.tiers.redis.names import (
    HASH_TAGS,
    SLOTS,
    Names,
    from_wire,
    pattern_of,
    slot_of,
    to_wire,
)

NAMES = Names("codebase_rag")
SOURCE = b"0123456789ab"


@given(st.binary(max_size=40) | st.lists(st.sampled_from([b"{", b"}", b"a", b":"])).map(b"".join))
def test_the_slot_is_the_one_that_the_clients_of_redis_compute(name: bytes) -> None:
    assert slot_of(name) == key_slot(name)


def test_each_slot_has_a_hash_tag_of_its_own() -> None:
    assert len(HASH_TAGS) == len(set(HASH_TAGS)) == SLOTS
    for slot, tag in enumerate(HASH_TAGS):
        assert key_slot(b"x:{%b}:y" % tag) == slot
        assert tag.decode().isprintable()


@given(st.text(max_size=40))
def test_what_belongs_to_an_entry_lies_in_its_slot(text: str) -> None:
    name = text.encode("utf-8", "replace")
    slot = slot_of(name)
    assert slot_of(NAMES.version(slot)) == slot
    assert slot_of(NAMES.shadow(slot, SOURCE, name)) == slot


@given(st.text(max_size=40))
def test_a_shadow_name_says_who_changed_what(text: str) -> None:
    name = text.encode("utf-8", "replace")
    shadow = NAMES.shadow(slot_of(name), SOURCE, name)
    assert shadow.startswith(NAMES.shadows)
    assert NAMES.unshadow(shadow, len(SOURCE)) == (SOURCE, name)


@given(st.text(max_size=40))
def test_a_counter_says_its_tag(tag: str) -> None:
    counter = NAMES.counter(tag)
    assert counter.startswith(NAMES.counters)
    assert not any(byte in counter for byte in b"{}\n*")
    assert NAMES.tag_of(counter) == tag


def test_a_strangers_counter_says_something() -> None:
    assert NAMES.tag_of(NAMES.counters + b"%FF") == "%FF"
    assert NAMES.tag_of(NAMES.counters + b"\xff")


@given(st.binary(max_size=40))
def test_any_name_on_a_server_comes_back(name: bytes) -> None:
    assert to_wire(from_wire(name)) == name


def test_none_of_our_names_is_another() -> None:
    names = [
        NAMES.counter("t"),
        NAMES.lease("t"),
        NAMES.version(1),
        NAMES.version(2),
        NAMES.shadow(1, SOURCE, b"t"),
        NAMES.probe(SOURCE),
        NAMES.sequence,
        NAMES.channel,
    ]
    assert len(set(names)) == len(names)
    assert all(name.startswith(b"codebase_rag:meta:") for name in names)
    tracked = (NAMES.shadows, NAMES.counters, NAMES.probe(SOURCE))
    for prefix in tracked:  # the server takes no prefix of a prefix
        assert not any(other.startswith(prefix) for other in tracked if other != prefix)


def test_a_pattern_means_its_letters() -> None:
    assert pattern_of(b"a*b?[c]\\^") == b"a\\*b\\?\\[c\\]\\\\\\^*"
    assert pattern_of(b"") == b"*"
