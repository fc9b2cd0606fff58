"""Two processes that write behind, over a shared tier that fails now and then, against a dict:
nothing older is seen after something newer was acknowledged in the same process, a delete and an
invalidation hold, and the tiers agree once all is written.
"""

from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.races.core_kit import Process

from querycache.cache.policy import Policy
from querycache.cache.waiting import Limits
from querycache.testing import FakeClock, SharedMemory

KEYS = st.sampled_from([f"codebase_rag:other:_:{n}" for n in range(4)])
WHO = st.integers(0, 1)
STRATEGY = st.sampled_from(["WRITE_BACK", "WRITE_BACK", "WRITE_THROUGH", "WRITE_AROUND"])
TTL = 50.0
POLICIES = {
    name: Policy(ttl=TTL, strategy=name)
    for name in ("WRITE_BACK", "WRITE_THROUGH", "WRITE_AROUND")
}
BACK = POLICIES["WRITE_BACK"]
TAGS = ("all", "odd", "even")
LIMITS = Limits(entries=3, interval_s=7.0, batch=2, drain_s=1.0)


def tags_of(key: str) -> tuple[str, str]:
    return "all", TAGS[1 + (int(key[-1]) % 2 == 0)]


class WriteBack(RuleBasedStateMachine):
    """Values are numbers that grow. `floor` holds, for each process and key, the newest value that
    it knows to be true: it must never see a smaller one. A change by one process becomes a floor
    of the other when that has heard of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.shared = SharedMemory(self.clock)
        self.both = [Process(self.shared, seed, LIMITS) for seed in (1, 2)]
        self.number = 0
        self.floor: dict[tuple[int, str], int] = {}
        self.ends: dict[int, float] = {}
        self.alone: set[str] = set()  # loaded while L2 was down: for the loader's L1 alone
        self.loop.run_until_complete(self._know_the_counters())

    async def _know_the_counters(self) -> None:
        for process in self.both:
            for tags in (("all",), ("all", "odd"), ("all", "even")):
                await process.core.generations.take(tags)

    def teardown(self) -> None:
        async def end() -> None:
            self.shared.down = False
            for process in self.both * 2:
                await process.core.settle()
                await process.core.flush()
                process.core.generations.catch_up()
            for process in self.both:
                assert await process.core.settle()
                assert await process.core.close() == 0
                process.whole()
            for number in range(4):
                key = f"codebase_rag:other:_:{number}"
                seen = {await process.get(key) for process in self.both}
                assert len(seen - {None}) <= 1 or key in self.alone

        try:
            self.loop.run_until_complete(end())
        finally:
            self.loop.close()

    def check(self, who: int, key: str, value: object) -> None:
        if value is None:
            return
        assert isinstance(value, int)
        assert value >= self.floor.get((who, key), 0)
        assert self.clock.now < self.ends[value]
        self.floor[who, key] = value

    @rule(who=WHO, key=KEYS, strategy=STRATEGY)
    def put(self, who: int, key: str, strategy: str) -> None:
        self.number += 1
        put = self.both[who].core.put({key: self.number}, POLICIES[strategy], tags=tags_of(key))
        self.ends[self.number] = self.clock.now + TTL
        kept = self.loop.run_until_complete(put)
        self.floor[who, key] = self.number
        if kept == [True] and strategy == "WRITE_BACK":
            answer = self.loop.run_until_complete(self.both[who].core.get(key, BACK))
            assert answer.value == self.number

    @rule(who=WHO, key=KEYS)
    def get(self, who: int, key: str) -> None:
        answer = self.loop.run_until_complete(self.both[who].core.get(key, BACK))
        self.check(who, key, answer.value)

    @rule(who=WHO, key=KEYS)
    def load(self, who: int, key: str) -> None:
        self.number += 1
        number = self.number

        async def origin() -> object:
            await asyncio.sleep(0)
            return number

        self.ends[number] = self.clock.now + TTL
        load = self.both[who].core.get_or_load(key, BACK, origin, tags=tags_of(key))
        value = self.loop.run_until_complete(load).value
        if self.shared.down:
            self.alone.add(key)
        else:
            self.check(who, key, value)

    @rule(who=WHO, key=KEYS)
    def remove(self, who: int, key: str) -> None:
        self.loop.run_until_complete(self.both[who].core.remove([key]))
        self.number += 1
        for one in (who,) if self.shared.down else (0, 1):
            self.floor[one, key] = self.number

    @rule(who=WHO, tag=st.sampled_from(TAGS))
    def invalidate(self, who: int, tag: str) -> None:
        told = self.loop.run_until_complete(self.both[who].core.invalidate([tag]))
        self.number += 1
        for number in range(4):
            key = f"codebase_rag:other:_:{number}"
            if tag in tags_of(key):
                for one in (0, 1) if told else (who,):
                    self.floor[one, key] = self.number

    @rule(who=WHO)
    def flush(self, who: int) -> None:
        self.loop.run_until_complete(self.both[who].core.flush())

    @rule(who=WHO)
    def settle(self, who: int) -> None:
        self.loop.run_until_complete(self.both[who].core.settle())

    @rule(seconds=st.floats(0.1, 30.0))
    def wait(self, seconds: float) -> None:
        self.loop.run_until_complete(self.clock.advance(seconds))

    @rule(who=WHO)
    def lose_l1(self, who: int) -> None:
        self.both[who].core.l1.clear()

    @rule(down=st.booleans())
    def break_or_mend(self, down: bool) -> None:  # noqa: FBT001 -- drawn
        self.shared.down = down

    @invariant()
    def bounds_hold(self) -> None:
        for process in self.both:
            queue = process.core.write_back.queue
            assert len(queue) <= LIMITS.entries
            assert queue.bytes == sum(item.weight for item in queue.items.values())


TestWriteBack = WriteBack.TestCase
TestWriteBack.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
