"""The parts of the tier over links that answer what a test says."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import hiredis
import pytest
from tests.redis_kit import until
from tests.redis_tier_kit import CLOCK, PREFIX

from querycache.errors import TierError
from querycache.ports.tiers import Pool
from querycache.tiers.redis.asking import Asker, fresh, number
from querycache.tiers.redis.inspection import Inspection
from querycache.tiers.redis.link import (
    Greeting,
    Listener,
    Node,
    RefusedError,
    Reply,
    Request,
    UnreachableError,
)
from querycache.tiers.redis.loops import Loops
from querycache.tiers.redis.names import Names, slot_of
from querycache.tiers.redis.reading import Reader
from querycache.tiers.redis.scripts import REMOVE, SOURCES, TOUCH, Call, pack
from querycache.tiers.redis.tier import RedisTier
from querycache.tiers.redis.tracking import RedisBackplane

pytestmark = pytest.mark.asyncio

NAMES = Names(PREFIX)
NOSCRIPT = hiredis.ReplyError("NOSCRIPT No matching script.")
Words = list[bytes]
Answer = Callable[[Words], Reply]


def parsed(data: bytes) -> list[Words]:
    """The commands in a request."""
    reader = hiredis.Reader()
    reader.feed(data)
    commands: list[Words] = []
    while (words := reader.gets()) is not False:
        commands.append(words)
    return commands


class FakeNode:
    """A server that answers each command as it is told to, and remembers."""

    def __init__(self, answer: Answer, where: str = "a:1") -> None:
        self.where = where
        self.answer = answer
        self.asked: list[Words] = []

    async def call(self, data: bytes, replies: int = 1) -> list[Reply]:
        commands = parsed(data)
        assert len(commands) == replies
        self.asked += commands
        return [self.answer(words) for words in commands]


class FakeLink:
    """A link to such servers; of several, a request goes to the first."""

    def __init__(self, *nodes: FakeNode) -> None:
        self.servers = nodes
        self.closed = 0

    def call(self, request: Request) -> Awaitable[list[Reply]]:
        return self.servers[0].call(request.data, request.replies)

    async def call_many(self, requests: Sequence[Request]) -> list[list[Reply] | TierError]:
        found: list[list[Reply] | TierError] = []
        for request in requests:
            try:
                found.append(await self.call(request))
            except TierError as error:
                found.append(error)
        return found

    async def everywhere(self, data: bytes, replies: int = 1) -> list[list[Reply]]:
        return [await node.call(data, replies) for node in self.servers]

    def nodes(self) -> list[Node]:
        return list(self.servers)

    def pool(self) -> Pool:
        return Pool(1, 1, 0, 1)

    async def close(self) -> None:
        self.closed += 1


class Made:
    """Loops whose links are fakes."""

    def __init__(self, answer: Answer = lambda _: None, *, clustered: bool = False) -> None:
        self.links: list[FakeLink] = []
        self.ears: list[Listener] = []
        self.greetings: list[Greeting] = []
        self.node = FakeNode(answer)
        self.backplane = RedisBackplane(NAMES, CLOCK)

        def open_link(greeting: Greeting, listener: Listener) -> FakeLink:
            self.greetings.append(greeting)
            self.ears.append(listener)
            self.links.append(FakeLink(self.node))
            return self.links[-1]

        self.loops = Loops(open_link, NAMES, self.backplane, clustered=clustered)
        self.asker = Asker(self.loops, "nowhere")
        self.reader = Reader(self.asker, NAMES, clustered=clustered)


# --- asking ------------------------------------------------------------------------------------


async def test_only_what_the_server_does_not_know_is_sent_again() -> None:
    def answer(words: Words) -> Reply:
        return NOSCRIPT if words[:2] == [b"EVALSHA", REMOVE.sha] else words[-1]

    made = Made(answer)
    asked = [
        Call(REMOVE, (b"1",), ()),
        Request(b"2", pack((b"GET", b"2"))),
        Call(TOUCH, (b"3",), ()),
        Call(REMOVE, (b"4",), ()),
    ]
    assert await made.asker.ask(asked) == [b"1", b"2", b"3", b"4"]
    sent = [words[0] for words in made.node.asked]
    assert sent == [b"EVALSHA", b"GET", b"EVALSHA", b"EVALSHA", b"EVAL", b"EVAL"]


async def test_a_script_that_is_unknown_twice_is_an_error() -> None:
    made = Made(lambda _: NOSCRIPT)
    with pytest.raises(RefusedError, match=r"NOSCRIPT.*a:1") as caught:
        await made.asker.ask([Call(REMOVE, (b"1",), ())])
    assert caught.value.code == "NOSCRIPT"
    assert len(made.node.asked) == 2


async def test_the_first_error_is_raised_and_all_was_sent() -> None:
    def answer(words: Words) -> Reply:
        if words[1] == b"2":
            raise UnreachableError("down")
        return hiredis.ReplyError("OOM") if words[1] == b"3" else b"OK"

    made = Made(answer)
    with pytest.raises(UnreachableError):
        await made.asker.ask([Request(n, pack((b"SET", n))) for n in (b"1", b"2", b"3", b"4")])
    assert len(made.node.asked) == 4
    with pytest.raises(RefusedError, match="OOM"):
        await made.asker.ask([Request(n, pack((b"SET", n))) for n in (b"1", b"3")])
    assert await made.asker.ask([]) == []


async def test_numbers_are_numbers_and_never_drawn_twice() -> None:
    drawn = [fresh() for _ in range(1000)]
    assert len(set(drawn)) == 1000
    assert all(number(b"%d" % one) == one < 1 << 62 for one in drawn)
    assert [number(text) for text in (None, b"", b"x", b"-1", b"1" * 20)] == [None] * 5


# --- reading -----------------------------------------------------------------------------------


async def test_a_server_that_keeps_no_version_is_an_error_not_a_guard() -> None:
    def answer(words: Words) -> Reply:
        return b"7" if words[0] == b"EVALSHA" else [None] * (len(words) - 1)

    made = Made(answer)
    for keys in ([b"k"], [b"k", b"l"]):
        with pytest.raises(TierError, match="forgets"):
            await made.reader.many(keys, fenced=True)
    with pytest.raises(TierError, match="forgets"):
        await made.reader.one(b"k", fenced=True)


@pytest.mark.parametrize("clustered", [False, True])
async def test_one_command_asks_for_what_one_server_takes(*, clustered: bool) -> None:
    def answer(words: Words) -> Reply:
        return [b"5" if b":ver:" in word else b"data of " + word for word in words[1:]]

    made = Made(answer, clustered=clustered)
    names = [b"{a}:1", b"{a}:2", *(b"k:%d" % n for n in range(1200))]
    found = await made.reader.many(names, fenced=True)
    assert [read.data for read in found] == [b"data of " + name for name in names]
    assert {read.guard for read in found} == {5}
    if clustered:
        slots = {slot_of(name) for name in names}
        assert len(made.node.asked) == len(slots)
        assert all(len({slot_of(word) for word in words[1:]}) == 1 for words in made.node.asked)
    else:
        assert len(made.node.asked) == 13


# --- inspection --------------------------------------------------------------------------------


async def test_each_name_is_listed_once_whatever_a_scan_repeats() -> None:
    pages: dict[bytes, tuple[bytes, Words]] = {
        b"0": (b"7", [b"a", b"b", b"a"]),
        b"7": (b"9", []),
        b"9": (b"0", [b"b", b"c", b"d"]),
    }

    def answer(words: Words) -> Reply:
        if words[0] == b"SCAN":
            return list(pages[words[1]])
        if words[0] == b"PTTL":
            return {b"c": -2, b"d": -1}.get(words[1], 5000)  # c has expired meanwhile
        return 3 if words[0] == b"STRLEN" else b"PONG"

    link = FakeLink(FakeNode(answer), FakeNode(answer, "b:2"))
    for clustered in (False, True):
        inspection = Inspection(link, NAMES, CLOCK, clustered)
        found = [one async for one in inspection.listed("")]
        assert [one.key for one in found] == ["a", "b", "d"]
        assert {one.size for one in found} == {3}
        assert found[2].expires_at == float("inf")


async def test_a_purge_remembers_no_names() -> None:
    """Nor does it read on before the last page is gone."""
    asked: list[bytes] = []

    def answer(words: Words) -> Reply:
        asked.append(words[0])
        if words[0] == b"SCAN":
            return [b"0" if words[1] == b"2" else b"%d" % (int(words[1]) + 1), [b"a", b"a"]]
        return 1 if words[0] == b"UNLINK" else b"PONG"

    inspection = Inspection(FakeLink(FakeNode(answer)), NAMES, CLOCK, clustered=False)
    assert await inspection.purge("") == 3  # what was stored anew goes, too
    assert asked == [b"PING", *[b"SCAN", b"UNLINK"] * 3]


async def test_info_adds_up_the_servers() -> None:
    def answer(words: Words) -> Reply:
        said: dict[bytes, Any] = {
            b"INFO": b"# Memory\r\nused_memory:10\r\nused_memory_peak:20\r\nmaxmemory:0\r\n",
            b"DBSIZE": 5,
            b"EXISTS": 1,  # the post of a process, which is no entry
        }
        return said.get(words[0], b"PONG")

    link = FakeLink(FakeNode(answer), FakeNode(answer, "b:2"))
    info = await Inspection(link, NAMES, CLOCK, clustered=True).info()
    assert (info.entries, info.memory_bytes, info.memory_peak_bytes) == (8, 20, 40)
    assert (info.where, info.max_bytes) == ("a:1, b:2", None)


# --- loops -------------------------------------------------------------------------------------


async def test_a_loop_keeps_its_link_and_each_has_its_own() -> None:
    made = Made()

    async def link() -> object:
        return made.loops.link()

    here = made.loops.link()
    other = await asyncio.to_thread(asyncio.run, link())
    assert made.loops.link() is here
    assert other is not here
    assert len(made.loops.links()) == 2
    await asyncio.to_thread(asyncio.run, link())  # finds that the other has ended
    assert len(made.loops.links()) == 2
    assert made.loops.link() is here


async def test_a_greeting_says_what_to_load_and_to_hear() -> None:
    for clustered in (False, True):
        made = Made(clustered=clustered)
        made.loops.link()
        (greeting,) = made.greetings
        assert greeting.scripts == SOURCES
        assert greeting.prefixes == (
            NAMES.shadows,
            NAMES.counters,
            NAMES.probe(made.backplane.source),
        )
        assert greeting.channel == (b"" if clustered else NAMES.channel)


async def test_a_link_of_a_loop_that_has_ended_is_gone_for_good() -> None:
    made = Made()

    async def join() -> None:
        made.loops.link()
        made.ears[-1].joined("theirs")

    await asyncio.to_thread(asyncio.run, join())
    assert not made.backplane.drain().deaf
    made.loops.link()
    made.ears[-1].joined("ours")
    assert not made.backplane.drain().deaf
    made.ears[-1].left("ours", gone=True)
    assert made.backplane.drain().deaf


async def test_close_closes_the_links_of_all_loops() -> None:
    made = Made()
    stop = asyncio.Event()
    ready = asyncio.Event()
    here = asyncio.get_running_loop()

    async def live() -> None:
        made.loops.link()
        here.call_soon_threadsafe(ready.set)

        async def closed() -> bool:
            return made.links[0].closed == 1

        await until(closed, "it is closed from outside")
        here.call_soon_threadsafe(stop.set)

    living = asyncio.ensure_future(asyncio.to_thread(asyncio.run, live()))
    await ready.wait()
    made.loops.link()
    await made.loops.close()
    await stop.wait()
    await living
    assert sorted(link.closed for link in made.links) == [1, 1]
    with pytest.raises(UnreachableError, match="closed"):
        made.loops.link()
    await made.loops.close()


@pytest.mark.parametrize("ended", [False, True], ids=["idle", "ended"])
async def test_a_loop_that_no_longer_runs_does_not_hinder_the_end(
    monkeypatch: pytest.MonkeyPatch, *, ended: bool
) -> None:
    made = Made()

    async def live() -> None:
        made.loops.link()

    def begin() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(live())
        if ended:
            loop.close()
        return loop

    loop = await asyncio.to_thread(begin)
    if ended:  # in the middle of our look at it
        monkeypatch.setattr(loop, "is_closed", lambda: False)
    await made.loops.close()
    assert made.backplane.drain().deaf
    monkeypatch.undo()
    gc.collect()  # a coroutine that nobody awaits would be a warning
    loop.close()


async def test_a_child_has_no_link_and_closes_none() -> None:
    made = Made()
    link = made.loops.link()
    made.loops.after_fork()
    assert made.loops.links() == []
    assert made.loops.link() is not link
    assert made.links[0].closed == 0


async def test_the_tier_says_where_before_it_knows() -> None:
    def open_link(greeting: Greeting, listener: Listener) -> FakeLink:
        del greeting, listener
        raise RuntimeError("no loop for that")

    tier = RedisTier(open_link, prefix=PREFIX, clock=CLOCK, where="redis.example:6379")
    with pytest.raises(TierError, match=r"redis\.example:6379.*no loop"):
        await tier.read(["k"])
    info = await tier.info()
    assert (info.connected, info.where) == (False, "redis.example:6379")
