"""The way out: what leaves when, in which pieces, and what is refused."""

from __future__ import annotations

import asyncio

import pytest

from querycache.tiers.redis.sender import Sender

pytestmark = pytest.mark.asyncio

SLICE = 256 * 1024


class Wire(asyncio.Transport):
    """Remembers what is written; tells its sender to pause after so many writes."""

    def __init__(self, sender: Sender, pause_after: int = 0) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closing = False
        self._sender = sender
        self._pause_after = pause_after

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))
        if len(self.writes) == self._pause_after:
            self._sender.pause()


def sender_of(limit: int = 1 << 30, *, pause_after: int = 0) -> tuple[Sender, Wire]:
    sender = Sender(asyncio.get_running_loop(), limit)
    wire = Wire(sender, pause_after)
    sender.attach(wire)
    return sender, wire


async def turn() -> None:
    await asyncio.sleep(0)


async def test_what_is_sent_in_one_turn_leaves_in_one_write():
    sender, wire = sender_of()
    for data in (b"a", b"b", b"c"):
        assert sender.send(data, at_once=False)
    assert wire.writes == []
    assert sender.waiting_bytes == 3
    await turn()
    assert wire.writes == [b"abc"]
    assert sender.waiting_bytes == 0


async def test_at_once_means_now_but_never_ahead_of_what_waits():
    sender, wire = sender_of()
    sender.send(b"1", at_once=True)
    assert wire.writes == [b"1"]
    sender.send(b"2", at_once=False)
    sender.send(b"3", at_once=True)
    assert wire.writes == [b"1"]
    await turn()
    assert wire.writes == [b"1", b"23"]


async def test_before_there_is_a_transport_it_waits():
    sender = Sender(asyncio.get_running_loop(), 100)
    sender.send(b"x", at_once=True)
    await turn()
    assert sender.waiting_bytes == 1


async def test_what_is_large_leaves_in_slices_as_the_transport_takes_them():
    data = bytes(range(256)) * 1024 * 3 + b"end"
    sender, wire = sender_of(pause_after=1)
    sender.send(data, at_once=True)
    await turn()
    assert [len(piece) for piece in wire.writes] == [SLICE]
    sender.send(b"next", at_once=True)
    await turn()
    assert len(wire.writes) == 1
    assert sender.waiting_bytes == len(data) - SLICE + 4
    sender.resume()
    assert [len(piece) for piece in wire.writes] == [SLICE, SLICE, SLICE, 3, 4]
    assert b"".join(wire.writes) == data + b"next"
    assert sender.waiting_bytes == 0


async def test_more_than_the_limit_is_refused_until_there_is_room():
    sender, wire = sender_of(limit=10)
    sender.pause()
    assert sender.send(b"x" * 6, at_once=True)
    assert not sender.send(b"x" * 5, at_once=True)
    assert sender.send(b"x" * 4, at_once=True)
    sender.resume()
    await turn()
    assert b"".join(wire.writes) == b"x" * 10
    assert sender.send(b"x" * 5, at_once=True)


async def test_nothing_leaves_after_the_end():
    sender, wire = sender_of()
    sender.send(b"x", at_once=False)
    sender.end()
    sender.send(b"y", at_once=True)
    await turn()
    assert wire.writes == []


async def test_a_transport_that_is_closing_is_left_alone():
    sender, wire = sender_of()
    sender.send(b"x", at_once=False)
    wire.closing = True
    await turn()
    assert wire.writes == []
