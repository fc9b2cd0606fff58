"""Adopting the journals of dead processes: never over what others have changed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from querycache.cache.adopting import Adopter
from querycache.cache.generations import Generations
from querycache.cache.parts import Parts
from querycache.codec.pipeline import Pipeline
from querycache.errors import TierError
from querycache.ports.journal import Recorded
from querycache.ports.tiers import Changes, Write
from querycache.testing import FakeClock, MemoryL2, RecordingObserver, SharedMemory
from querycache.tiers.memory import MemoryTier, weigh

pytestmark = pytest.mark.asyncio


class Left:
    """A journal of journals that dead processes left."""

    def __init__(self, *histories: Sequence[Recorded]) -> None:
        self.histories = list(histories)
        self.taken: Sequence[Recorded] = ()

    async def append(self, records: Sequence[Recorded]) -> None:
        raise TierError(f"{len(records)} writes are refused")

    def remove(self, key: str, number: int) -> None:
        raise AssertionError((key, number))

    async def adopt(self) -> Left | None:
        if not self.histories:
            return None
        self.taken = self.histories.pop(0)
        return self

    async def close(self) -> None: ...

    @property
    def records(self) -> Sequence[Recorded]:
        return self.taken

    def done(self) -> None:
        self.taken = ()

    def let_go(self) -> None:
        self.histories.append(self.taken)


class Stage:
    def __init__(self, *histories: Sequence[Recorded]) -> None:
        self.clock = FakeClock()
        self.l2 = MemoryL2(SharedMemory(self.clock))
        self.journal = Left(*histories)
        self.written: list[str] = []
        parts = Parts(
            l1=MemoryTier(max_entries=9, max_bytes=9999, policy="S3FIFO"),
            l2=self.l2,
            backplane=self.l2.backplane,
            codec=Pipeline(),
            clock=self.clock,
            observer=RecordingObserver(),
            weigh=weigh,
            draw=lambda: 0.5,
        )

        def ignore(changes: Changes) -> None:
            del changes

        self.generations = Generations(self.l2, self.l2.backplane, ignore)
        self.adopter = Adopter(parts, self.generations, self.journal, self.written.append)

    async def holds(self, key: str = "k") -> bytes | None:
        return (await self.l2.read([key]))[0].data


END = 1_700_000_100.0
FIRST = Recorded(1, Write("k", b"first", END, guard=0))
SECOND = Recorded(2, Write("k", b"second", END, guard=0))


async def test_the_newest_of_a_name_is_written() -> None:
    stage = Stage([FIRST, SECOND])
    await stage.adopter.turn()
    assert await stage.holds() == b"second"
    assert (stage.adopter.adopted, stage.written, stage.journal.taken) == (1, ["k"], ())


async def test_what_the_dead_process_wrote_itself_is_no_change_by_others() -> None:
    stage = Stage([FIRST, SECOND])
    await stage.l2.write([Write("k", b"first", END)])
    await stage.adopter.turn()
    assert await stage.holds() == b"second"


async def test_what_others_wrote_stays() -> None:
    stage = Stage([FIRST, SECOND])
    await stage.l2.write([Write("k", b"theirs", END)])
    await stage.adopter.turn()
    assert await stage.holds() == b"theirs"
    assert stage.adopter.dropped == 1


async def test_what_others_deleted_stays_away() -> None:
    stage = Stage([SECOND])
    await stage.l2.remove(["k"])
    await stage.adopter.turn()
    assert await stage.holds() is None


@pytest.mark.parametrize("change", [{"guard": None}, {"expires_at": 1.0}])
async def test_what_nothing_is_known_of_and_what_expired_leave_nothing(
    change: dict[str, object],
) -> None:
    write = msgspec.structs.replace(SECOND.write, **change)
    stage = Stage([Recorded(2, write)])
    await stage.l2.write([Write("k", b"old", END)])
    await stage.adopter.turn()
    assert await stage.holds() is None
    assert stage.adopter.dropped == 1


async def test_content_needs_no_guard() -> None:
    stage = Stage([Recorded(1, Write("k", b"content", END, tell=False))])
    await stage.adopter.turn()
    assert await stage.holds() == b"content"


async def test_what_is_newer_here_is_left() -> None:
    stage = Stage([SECOND])
    stage.generations.dirty = {"k": 1}
    await stage.adopter.turn()
    assert await stage.holds() is None
    assert stage.adopter.dropped == 1


async def test_with_l2_down_it_stays_for_the_next_turn() -> None:
    stage = Stage([SECOND])
    stage.l2.shared.down = True
    await stage.adopter.turn()
    assert stage.journal.histories == [[SECOND]]
    stage.l2.shared.down = False
    await stage.adopter.turn()
    assert await stage.holds() == b"second"


async def test_it_looks_again_after_a_minute() -> None:
    stage = Stage()
    await stage.adopter.turn()
    stage.journal.histories.append([SECOND])
    await stage.adopter.turn()
    assert await stage.holds() is None
    await stage.clock.advance(61.0)
    await stage.adopter.turn()
    assert await stage.holds() == b"second"


async def test_what_is_written_at_once_is_bounded_in_bytes() -> None:
    large = [Recorded(n, Write(f"k{n}", bytes(3_000_000), END, guard=0)) for n in range(3)]
    stage = Stage(large)
    write, sizes = stage.l2.write, list[int]()

    async def measured(writes: Sequence[Write]) -> list[bool]:
        sizes.append(sum(len(write.data) for write in writes))
        return await write(writes)

    stage.l2.write = measured
    await stage.adopter.turn()
    assert sizes == [3_000_000] * 3
    assert stage.adopter.adopted == 3
