"""Two processes over one shared tier against a dict with a clock: whatever is done in whatever
order, a read gives what the model holds, or nothing, and never what was invalidated.
"""

from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.races.core_kit import Process

from querycache.cache.policy import Policy
from querycache.testing import FakeClock, SharedMemory

KEYS = st.sampled_from([f"codebase_rag:other:_:{n}" for n in range(6)])
VALUES = st.one_of(st.integers(), st.text(max_size=5), st.none(), st.lists(st.integers()))
WHO = st.integers(0, 1)
TTL = 100.0
PLAIN = Policy(ttl=TTL)
TAGS = ("all", "odd", "even")


def tag_of(key: str) -> str:
    return TAGS[1 + (int(key[-1]) % 2 == 0)]


class TwoTiers(RuleBasedStateMachine):
    """The model holds (value, expiry) by key; `down` says whether L2 is."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.shared = SharedMemory(self.clock)
        self.both = [Process(self.shared, seed) for seed in (1, 2)]
        self.held: dict[str, tuple[object, float]] = {}

    def teardown(self) -> None:
        async def whole() -> None:
            for process in self.both:
                await process.core.flights.close()
                process.whole()

        self.loop.run_until_complete(whole())
        self.loop.close()

    def expected(self, key: str) -> tuple[bool, object]:
        value, end = self.held.get(key, (None, 0.0))
        return self.clock.now < end, value

    @rule(who=WHO, key=KEYS, value=VALUES)
    def put(self, who: int, key: str, value: object) -> None:
        tags = ("all", tag_of(key))
        put = self.both[who].core.put({key: value}, PLAIN, tags=tags)
        assert self.loop.run_until_complete(put) == [True]
        self.held[key] = (value, self.clock.now + TTL)

    @rule(who=WHO, key=KEYS)
    def get(self, who: int, key: str) -> None:
        answer = self.loop.run_until_complete(self.both[who].core.get(key, PLAIN))
        alive, value = self.expected(key)
        assert answer.found == alive
        if alive:
            assert answer.value == value
            assert type(answer.value) is type(value)

    @rule(who=WHO, key=KEYS, value=VALUES)
    def load(self, who: int, key: str, value: object) -> None:
        async def origin() -> object:
            await asyncio.sleep(0)
            return value

        tags = ("all", tag_of(key))
        load = self.both[who].core.get_or_load(key, PLAIN, origin, tags=tags)
        answer = self.loop.run_until_complete(load)
        alive, held = self.expected(key)
        assert answer.value == (held if alive else value)
        if not alive:
            self.held[key] = (value, self.clock.now + TTL)

    @rule(who=WHO, key=KEYS)
    def remove(self, who: int, key: str) -> None:
        self.loop.run_until_complete(self.both[who].core.remove([key]))
        self.held.pop(key, None)

    @rule(who=WHO, tag=st.sampled_from(TAGS))
    def invalidate(self, who: int, tag: str) -> None:
        assert self.loop.run_until_complete(self.both[who].core.invalidate([tag]))
        gone = [key for key in self.held if tag in ("all", tag_of(key))]
        for key in gone:
            del self.held[key]

    @rule(seconds=st.floats(0.1, 60.0))
    def wait(self, seconds: float) -> None:
        self.loop.run_until_complete(self.clock.advance(seconds))

    @rule(who=WHO)
    def lose_l1(self, who: int) -> None:
        self.both[who].core.l1.clear()

    @invariant()
    def bounds_hold(self) -> None:
        for process in self.both:
            info = process.l1.info()
            assert info.size <= info.max_size
            assert info.bytes <= info.max_bytes


TestTwoTiers = TwoTiers.TestCase
TestTwoTiers.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
