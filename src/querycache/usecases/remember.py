"""Remember values under a caller's own keys: get, set, delete, batches, get or compute."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from inspect import isawaitable

import msgspec

from querycache.cache.loading import Answer
from querycache.cache.policy import Policy
from querycache.cache.two_tier import TwoTier
from querycache.cache.typed import base_tags, file_tag, project_tag
from querycache.errors import UsageError
from querycache.keys import Namer, Scope, sayable
from querycache.values import Kind

_NAMES_KEPT = 8192


class Counted(msgspec.Struct, frozen=True):
    """What was done since `last_reset` (wall seconds). Rates are shares of the reads, 0 before
    one.
    """

    hit_count: int
    miss_count: int
    set_count: int
    delete_count: int
    error_count: int
    last_reset: float

    @property
    def total_operations(self) -> int:
        return self.hit_count + self.miss_count + self.set_count + self.delete_count

    @property
    def hit_rate(self) -> float:
        reads = self.hit_count + self.miss_count
        return self.hit_count / reads if reads else 0.0

    @property
    def miss_rate(self) -> float:
        reads = self.hit_count + self.miss_count
        return self.miss_count / reads if reads else 0.0


class Remember:
    """A caller's own keys over both tiers.

    A key that begins with a kind and a colon (`file:/a/b.py`) belongs to that kind and has its
    life; `file:…` and `project:…` keys also fall with their file or project. Values come back
    equal and of the same type; see `UnsupportedValueError` for those that can't.
    """

    def __init__(
        self,
        core: TwoTier,
        namer: Namer,
        policies: Mapping[Kind, Policy],
        batch_size: int,
        scope: Scope = Scope(),  # noqa: B008 -- an immutable value
    ) -> None:
        """Keys of a `scope` with a project belong to that project, and fall with it."""
        self._scope = scope
        self._core = core
        self._namer = namer
        self._policies = policies
        self._batch_size = batch_size
        self._names: dict[str, str] = {}
        self._hit = core.hit
        self.deletes = 0
        self.__dict__["get"] = self._get_path()

    async def get(self, key: str) -> object:
        """The value, or None where there is none (or None was remembered: see `exists`)."""
        return (await self.find(key)).value

    def _get_path(self) -> Callable[[str], Awaitable[object]]:
        """`get` with the hit path before it, as a closure: a fifth of an L1 hit is attribute
        look-ups.
        """
        name_of, hit, find, value = self._names.get, self._core.hit, self.find, self._core.value

        async def get(key: str) -> object:
            entry = hit(name_of(key, ""))
            if entry is None:
                return (await find(key)).value
            return value(entry) if entry.packed else entry.value

        return get

    async def find(self, key: str) -> Answer[object]:
        """The value with where it was found, or why it was not."""
        name = self._name(key)
        return await self._core.get(name, self._policy(name))

    async def exists(self, key: str) -> bool:
        return (await self.find(key)).found

    async def set(
        self, key: str, value: object, ttl: float | None = None, tags: Sequence[str] = ()
    ) -> bool:
        """Stores a value in both tiers; whether it can be had again.

        `ttl` in seconds (None: its kind's). Raises `UnsupportedValueError`, `UsageError`.
        """
        name = self._name(key)
        policy = self._policy(name)
        (kept,) = await self._core.put({name: value}, policy, tags=self._tags(key, tags), ttl=ttl)
        return kept

    async def delete(self, key: str) -> bool:
        """Whether there was one."""
        return await self.delete_batch([key]) > 0

    async def get_batch(self, keys: Sequence[str]) -> dict[str, object]:
        """The values of those that were found."""
        found: dict[str, object] = {}
        for kind, names in self._by_kind(keys).items():
            for part in _parts(list(names), self._batch_size):
                answers = await self._core.get_many(part, self._policies[kind])
                found |= {names[name]: answer.value for name, answer in answers.items()}
        return {key: found[key] for key in keys if key in found}

    async def set_batch(
        self, values: Mapping[str, object], ttl: float | None = None, tags: Sequence[str] = ()
    ) -> int:
        """Stores many; how many can be had again."""
        kept = 0
        for kind, names in self._by_kind(list(values)).items():
            by_tags: dict[tuple[str, ...], dict[str, object]] = {}
            for name, key in names.items():
                by_tags.setdefault(self._tags(key, tags), {})[name] = values[key]
            for all_tags, group in by_tags.items():
                for part in _parts(list(group), self._batch_size):
                    done = await self._core.put(
                        {name: group[name] for name in part},
                        self._policies[kind],
                        tags=all_tags,
                        ttl=ttl,
                    )
                    kept += sum(done)
        return kept

    async def delete_batch(self, keys: Sequence[str]) -> int:
        """Deletes many; how many there were."""
        names = [self._name(key) for key in dict.fromkeys(keys)]
        self.deletes += len(names)
        return sum([await self._core.remove(part) for part in _parts(names, self._batch_size)])

    async def get_or_compute(
        self,
        key: str,
        loader: Callable[[], object | Awaitable[object]],
        ttl: float | None = None,
        tags: Sequence[str] = (),
    ) -> object:
        """The value; where there is none, what `loader()` gives (awaited if it is awaitable), once
        for all who ask meanwhile, in all processes.
        """
        entry = self._hit(self._names.get(key, ""))
        if entry is not None:
            return self._core.value(entry) if entry.packed else entry.value

        async def load() -> object:
            value = loader()
            return await value if isawaitable(value) else value

        name = self._name(key)
        answer = await self._core.get_or_load(
            name, self._policy(name), load, tags=self._tags(key, tags), ttl=ttl
        )
        return answer.value

    def name(self, key: str) -> str:
        """The entry's name in L2."""
        return self._name(key)

    def counted(self, kinds: Sequence[Kind] = tuple(Kind), since: float = 0.0) -> Counted:
        """The counts of this process."""
        tallies = [self._core.tallies[kind] for kind in kinds]
        return Counted(
            hit_count=sum(tally.l1_hits + tally.l2_hits for tally in tallies),
            miss_count=sum(tally.misses for tally in tallies),
            set_count=sum(tally.sets for tally in tallies),
            delete_count=self.deletes,
            error_count=sum(tally.errors for tally in tallies),
            last_reset=since,
        )

    def _name(self, key: str) -> str:
        """The entry's name, remembered: making it costs more than an L1 hit."""
        name = self._names.get(key)
        if name is None:
            if len(self._names) >= _NAMES_KEPT:
                self._names.clear()
            name = self._names[key] = self._namer.raw(key, self._scope)
        return name

    def _policy(self, name: str) -> Policy:
        return self._policies[self._namer.kind_of(name)]

    def _tags(self, key: str, tags: Sequence[str]) -> tuple[str, ...]:
        if isinstance(tags, str):
            raise UsageError("tags is a sequence of strings, not one string")
        own = base_tags(self._namer.kind_of(self._name(key)), self._scope)
        head, colon, rest = key.partition(":")
        if colon and head == Kind.FILE:
            own = (*own, file_tag(rest))
        elif colon and head == Kind.PROJECT:
            own = (*own, project_tag(rest.partition(":")[0]))
        given = dict.fromkeys(map(sayable, tags))
        return (*own, *(tag for tag in given if tag not in own))

    def _by_kind(self, keys: Sequence[str]) -> dict[Kind, dict[str, str]]:
        groups: dict[Kind, dict[str, str]] = {}
        for key in keys:
            name = self._name(key)
            groups.setdefault(self._namer.kind_of(name), {})[name] = key
        return groups


def _parts(names: Sequence[str], size: int) -> list[Sequence[str]]:
    return [names[start : start + size] for start in range(0, len(names), size)]
