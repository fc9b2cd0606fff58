"""A kind's declaration bound to the path: typed keys in, typed values out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar, cast

from querycache.cache.generations import EVERYTHING
from querycache.cache.loading import Answer
from querycache.cache.policy import Policy
from querycache.cache.two_tier import TwoTier
from querycache.keys import Namer, Scope, sayable
from querycache.values import Kind

K = TypeVar("K")
V = TypeVar("V")

ALL = EVERYTHING
"""The tags of all kinds: every entry has one of them."""


def kind_tag(kind: Kind) -> str:
    """The tag of every entry of a kind."""
    return f"kind:{kind}"


def project_tag(project: str) -> str:
    """The tag of every entry of a project."""
    return f"project:{sayable(project)}"


def derived_tag(project: str) -> str:
    """The tag of what was computed from a project's files taken together."""
    return f"derived:{sayable(project)}"


def file_tag(path: str) -> str:
    """The tag of what was derived from one file; `path` as the caller names it."""
    return f"file:{sayable(path)}"


def base_tags(kind: Kind, scope: Scope) -> tuple[str, ...]:
    """The tags that every entry of a kind and a scope depends on."""
    own = kind_tag(kind)
    return (own, project_tag(scope.project)) if scope.project else (own,)


class TypedCache(Generic[K, V]):
    """One kind of value, addressed by keys of type `K`.

    Example:
        >>> reports = TypedCache[int, str](core, namer, Policy(ttl=600), parts=lambda n: (str(n),))
        >>> text = await reports.get_or_load(42, lambda: render_report(42))
    """

    def __init__(  # noqa: PLR0913 -- a declaration
        self,
        core: TwoTier,
        namer: Namer,
        policy: Policy,
        *,
        parts: Callable[[K], tuple[str | bytes, ...]],
        scope: Scope = Scope(),  # noqa: B008 -- an immutable value
        version: str = "1",
        tags: tuple[str, ...] = (),
    ) -> None:
        """`parts` says what a key consists of, all that a value depends on; `version` changes when
        the same key may give another value.
        """
        self.policy = policy
        self._core = core
        self._namer = namer
        self._parts = parts
        self._scope = scope
        self._version = version
        self._tags = (*base_tags(policy.kind, scope), *tags)

    def name(self, key: K) -> str:
        """The entry's name in L2."""
        return self._namer.typed(self.policy.kind, self._scope, self._version, *self._parts(key))

    async def get(self, key: K) -> V | None:
        """The value, or None where no tier has it (a remembered None looks the same: see
        `find`).
        """
        return (await self.find(key)).value

    async def find(self, key: K) -> Answer[V]:
        """The value with where it was found."""
        return cast("Answer[V]", await self._core.get(self.name(key), self.policy))

    async def get_or_load(self, key: K, load: Callable[[], Awaitable[V]]) -> V:
        """The value; `load` is called once for all who ask meanwhile."""
        return (await self.answer(key, load)).value

    async def answer(
        self, key: K, load: Callable[[], Awaitable[V]], *, tags: tuple[str, ...] = ()
    ) -> Answer[V]:
        """The same, with where it was found; `tags` on top of the declaration's."""
        answer = await self._core.get_or_load(
            self.name(key), self.policy, load, tags=self._tags + tags
        )
        return cast("Answer[V]", answer)

    async def answer_many(
        self,
        keys: Sequence[K],
        load: Callable[[list[K]], Awaitable[Mapping[K, V]]],
        *,
        tags: tuple[str, ...] = (),
        to_l1: bool = True,
    ) -> dict[K, Answer[V]]:
        """Many at once: `load` gets the keys that no tier holds. Without `to_l1` it is a scan,
        which displaces nothing in memory.
        """
        names = {self.name(key): key for key in keys}

        async def load_names(missing: list[str]) -> dict[str, object]:
            values = await load([names[name] for name in missing])
            return {name: values[names[name]] for name in missing if names[name] in values}

        answers = await self._core.get_or_load_many(
            list(names), self.policy, load_names, tags=self._tags + tags, to_l1=to_l1
        )
        return {names[name]: cast("Answer[V]", answer) for name, answer in answers.items()}

    async def put(self, key: K, value: V) -> bool:
        """Whether it can be had again."""
        (done,) = await self._core.put({self.name(key): value}, self.policy, tags=self._tags)
        return done

    async def remove(self, key: K) -> bool:
        """Whether there was one."""
        return await self._core.remove([self.name(key)]) > 0
