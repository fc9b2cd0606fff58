"""Invalidate: make entries unreachable at once, in O(1), and reclaim what they held."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from querycache.cache.two_tier import TwoTier
from querycache.cache.typed import ALL, derived_tag, file_tag, kind_tag, project_tag
from querycache.errors import TierError
from querycache.keys import Namer, Scope, sayable
from querycache.usecases.invalidate.pattern import Meant, read_pattern
from querycache.values import Kind

_BATCH = 500


class Invalidated(msgspec.Struct, frozen=True):
    """What an invalidation cut. `entries` counts those that were found and dropped (more may have
    been cut: they are unreachable, and expire). `generation` is the number of the counter that
    moved, 0 for a single key. `told` is False while L2 can't be reached: the cut holds in this
    process, and other processes hear of it when L2 is back.
    """

    files: int
    entries: int
    generation: int
    told: bool


class Invalidate:
    """The use case."""

    def __init__(
        self, core: TwoTier, namer: Namer, projects_of: Callable[[Sequence[str]], list[str]]
    ) -> None:
        """`projects_of` names the indexed projects that hold one of some absolute paths;
        blocking.
        """
        self._core = core
        self._namer = namer
        self._projects_of = projects_of

    async def files(self, paths: Sequence[str], *, results: bool = True) -> Invalidated:
        """All that was derived from these files: parses, `file:<path>` keys, what carries their
        tags, and every search result and project context of the projects that hold them. Not the
        last two without `results`: they fall by themselves when the index is brought up.
        """
        if not paths:
            return Invalidated(0, 0, 0, told=True)
        names = await asyncio.to_thread(_spellings, paths)
        tags = [file_tag(name) for name in names]
        projects = await asyncio.to_thread(self._projects_of, names) if results else []
        tags += [derived_tag(project) for project in projects]
        prefixes = [
            f"{self._namer.prefix}:{kind}:{Scope(project).segment}:"
            for project in projects
            for kind in (Kind.SEARCH, Kind.PROJECT)
        ]
        cut = await self._cut(tags, prefixes)
        keys = [self._namer.raw(f"{Kind.FILE}:{name}") for name in names]
        held = await self._core.remove(keys)
        return msgspec.structs.replace(cut, files=len(paths), entries=cut.entries + held)

    async def project(self, name: str) -> Invalidated:
        """Every entry of a project. What is shared by content stays: it is never stale."""
        prefixes = [f"{self._namer.prefix}:{kind}:{Scope(name).segment}:" for kind in Kind]
        return await self._cut([project_tag(name), derived_tag(name)], prefixes)

    async def tag(self, name: str) -> Invalidated:
        """Every entry that carries this tag."""
        return await self._cut([sayable(name)], [])

    async def key(self, key: str) -> Invalidated:
        """One entry, by its full name or a caller's own key."""
        held = await self._core.remove([self._namer.full(key)])
        return Invalidated(0, held, 0, told=not self._core.generations.owed_keys)

    async def kind(self, kind: Kind) -> Invalidated:
        """Every entry of one kind."""
        return await self._cut([kind_tag(kind)], [f"{self._namer.prefix}:{kind}:"])

    async def pattern(self, pattern: str) -> Invalidated:
        """The entries whose names match a glob, as `pattern` describes it.

        What names whole kinds or a whole project is cut by counters. For anything else the
        names are looked for: in L1 at once, then in L2, and removed in batches, each of which is
        told. What only another process's memory holds by then is not found. Raises `UsageError`.
        """
        meant = read_pattern(pattern, self._namer)
        if meant.project is not None and meant.whole:
            return await self.project(meant.project)
        if meant.whole:
            heads = meant.heads(self._namer.prefix)
            return await self._cut([kind_tag(kind) for kind in meant.kinds], heads)
        return await self._scanned(meant)

    async def everything(self) -> Invalidated:
        """Every entry; counters, leases and the registry stay."""
        prefixes = [f"{self._namer.prefix}:{kind}:" for kind in Kind]
        return await self._cut(ALL, prefixes)

    async def _cut(self, tags: Sequence[str], prefixes: Sequence[str]) -> Invalidated:
        told = await self._core.invalidate(tags)
        dropped = self._drop_from_l1(tags)
        reclaimed = 0
        with suppress(TierError):  # what could not be reclaimed is unreachable, and expires
            for prefix in prefixes:
                reclaimed += await self._core.l2.purge(prefix)
        stamp = self._core.generations.now(tags[0])
        return Invalidated(0, max(dropped, reclaimed), stamp.number if stamp else 0, told=told)

    async def _scanned(self, meant: Meant) -> Invalidated:
        core, prefix = self._core, self._namer.prefix
        matches = meant.matcher(prefix)
        batch = list(filter(matches, core.names()))
        held = await core.remove(batch) if batch else 0
        try:
            for head in meant.heads(prefix):
                batch.clear()
                async for row in core.l2.scan(head):
                    if matches(row.key):
                        batch.append(row.key)
                    if len(batch) >= _BATCH:
                        held += await core.remove(batch)
                        batch.clear()
                held += await core.remove(batch) if batch else 0
        except TierError:  # what L2 still holds could not be named
            return Invalidated(0, held, 0, told=False)
        return Invalidated(0, held, 0, told=not core.generations.owed_keys)

    def _drop_from_l1(self, tags: Sequence[str]) -> int:
        wanted = set(tags)
        entries = list(self._core.l1.entries.values())
        cut = [entry for entry in entries if any(tag in wanted for tag, _ in entry.tags)]
        return sum(self._core.l1.remove(entry.key) is not None for entry in cut)


def _spellings(paths: Sequence[str]) -> list[str]:
    """The paths as they are, absolute, and as they really are."""
    spelled = (
        name
        for path in paths
        for name in (path, os.path.abspath(path), os.path.realpath(path))  # noqa: PTH100 -- links stay
    )
    return list(dict.fromkeys(spelled))
