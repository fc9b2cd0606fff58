"""Reading: the fewest commands that bring values with the versions of their slots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from querycache.errors import TierError
from querycache.ports.tiers import Read
from querycache.tiers.redis.asking import Asker, number
from querycache.tiers.redis.link import Request
from querycache.tiers.redis.names import Names, slot_of
from querycache.tiers.redis.scripts import pack

_CHUNK: Final = 100  # names in one command
_UNFENCED: Final = 0


class _Group(NamedTuple):
    """Names that one command reads, and the slots whose versions it reads with them."""

    names: Sequence[bytes]
    slots: Sequence[int]


class Reader:
    """Reads entries and counters.

    Attributes:
        witnessed: The version of each slot that was seen last.
    """

    def __init__(self, asker: Asker, names: Names, *, clustered: bool) -> None:
        self.witnessed: dict[int, int] = {}
        self._asker = asker
        self._names = names
        self._clustered = clustered

    async def one(self, name: bytes, *, fenced: bool) -> Read:
        """What there is under a name."""
        if not fenced:
            (data,) = await self._asker.link().call(Request(name, pack((b"GET", name))))
            return Read(data if type(data) is bytes else self._asker.value(data), _UNFENCED)
        slot = slot_of(name)
        words = (b"MGET", name, self._names.version(slot))
        (reply,) = await self._asker.link().call(Request(name, pack(words)))
        data, version = self._asker.values(reply)
        at = number(version)
        if at is None:
            return (await self.many([name], fenced=True))[0]
        self.witnessed[slot] = at
        return Read(data, at)

    async def many(self, names: Sequence[bytes], *, fenced: bool) -> list[Read]:
        """What there is under each."""
        if not fenced:
            return [Read(data, _UNFENCED) for data in await self._values(names)]
        found, bare = await self._look(names)
        if bare:  # slots that have no version yet
            slots = dict.fromkeys(map(slot_of, bare))
            await self._asker.created([self._names.version(slot) for slot in slots])
            again, bare = await self._look(bare)
            if bare:
                raise TierError(
                    f"Redis at {self._asker.where()} forgets at once what it is given",
                    remedy="give it more memory (maxmemory)",
                )
            found.update(again)
        return [found[name] for name in names]

    async def _values(self, names: Sequence[bytes]) -> list[bytes | None]:
        """The value of each, without a version."""
        if not names:
            return []
        if not self._clustered and len(names) <= _CHUNK:
            (reply,) = await self._asker.ask([Request(b"", pack((b"MGET", *names)))])
            return self._asker.values(reply)
        groups = self._groups(names, fenced=False)
        replies = await self._asker.ask(self._reading(groups))
        values = {
            name: value
            for group, reply in zip(groups, replies, strict=True)
            for name, value in zip(group.names, self._asker.values(reply), strict=True)
        }
        return [values[name] for name in names]

    async def _look(self, names: Sequence[bytes]) -> tuple[dict[bytes, Read], list[bytes]]:
        """What there is with its guard, and the names for which there is none."""
        groups = self._groups(names, fenced=True)
        replies = await self._asker.ask(self._reading(groups))
        found: dict[bytes, Read] = {}
        bare: list[bytes] = []
        for group, reply in zip(groups, replies, strict=True):
            values = self._asker.values(reply)
            versions = map(number, values[len(group.names) :])
            at = {s: v for s, v in zip(group.slots, versions, strict=True) if v is not None}
            self.witnessed.update(at)
            for name, data in zip(group.names, values, strict=False):
                guard = at.get(slot_of(name))
                if guard is None:
                    bare.append(name)
                else:
                    found[name] = Read(data, guard)
        return found, bare

    async def numbers(self, names: Sequence[bytes]) -> dict[bytes, int]:
        """The number under each name, which is a new one where there was none."""
        found: dict[bytes, int] = {}
        absent: list[bytes] = []
        for name, value in zip(names, await self._values(names), strict=True):
            at = number(value)
            if at is None:
                absent.append(name)
            else:
                found[name] = at
        found.update(await self._asker.created(absent))
        return found

    def _groups(self, names: Sequence[bytes], *, fenced: bool) -> list[_Group]:
        """Names as one command may ask for them: of one slot in a cluster, and not too many."""
        if not self._clustered:
            chunks = [names[at : at + _CHUNK] for at in range(0, len(names), _CHUNK)]
            return [
                _Group(one, list({slot_of(n) for n in one}) if fenced else []) for one in chunks
            ]
        by_slot: dict[int, list[bytes]] = {}
        for name in names:
            by_slot.setdefault(slot_of(name), []).append(name)
        return [_Group(one, [slot] if fenced else []) for slot, one in by_slot.items()]

    def _reading(self, groups: Iterable[_Group]) -> list[Request]:
        version = self._names.version
        return [
            Request(names[0], pack((b"MGET", *names, *map(version, slots))))
            for names, slots in groups
        ]
