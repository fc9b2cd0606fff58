"""The map of a cluster's slots: how it is read, and whom to believe."""

from __future__ import annotations

import asyncio

import hiredis
import pytest

from querycache.errors import TierError
from querycache.tiers.redis.link import RefusedError, UnreachableError
from querycache.tiers.redis.slot_map import SlotMap, most, read

pytestmark = pytest.mark.asyncio

OLD: SlotMap = ((0, 16383, ("a", 1)),)
NEW: SlotMap = ((0, 16383, ("b", 1)),)


async def say(told: SlotMap | TierError, after_s: float = 0) -> SlotMap:
    await asyncio.sleep(after_s)
    if isinstance(told, TierError):
        raise told
    return told


async def test_most_of_those_who_answer_are_believed():
    assert await most([say(OLD), say(NEW), say(NEW)]) == NEW
    assert await most([say(OLD), say(NEW, 0.01), say(NEW, 0.02)]) == NEW
    assert await most([say(UnreachableError("down")), say(OLD)]) == OLD


async def test_nobody_waits_long_for_the_others():
    started = asyncio.get_running_loop().time()
    assert await most([say(OLD), say(NEW, 60), say(NEW, 60)]) == OLD
    assert asyncio.get_running_loop().time() - started < 1


async def test_without_an_answer_there_is_a_reason():
    with pytest.raises(UnreachableError, match="down"):
        await most([say(UnreachableError("down"))])
    with pytest.raises(UnreachableError, match="nobody to ask"):
        await most([])


async def test_how_an_answer_is_read():
    node, replica = (b"10.0.0.1", 7000, b"id"), (b"10.0.0.2", 7000, b"id2")
    rows: list[list[object]] = [
        [100, 16383, [b"::1", 7001, b"id"]],
        [0, 99, [*node, []], [*replica, []]],
    ]
    assert read(rows, "h:1") == ((0, 99, ("10.0.0.1", 7000)), (100, 16383, ("::1", 7001)))
    for unknown in (b"", None):  # it does not know its own host: it is where it was asked
        one: list[list[object]] = [[0, 9, [unknown, 7]]]
        assert read(one, "[::1]:7") == ((0, 9, ("::1", 7)),)


async def test_what_is_no_map():
    with pytest.raises(UnreachableError, match="no slots yet"):
        read([], "h:1")
    with pytest.raises(UnreachableError, match="no cluster"):
        read(hiredis.ReplyError("ERR This instance has cluster support disabled"), "h:1")
    with pytest.raises(RefusedError, match="NOPERM"):
        read(hiredis.ReplyError("NOPERM no permissions"), "h:1")
