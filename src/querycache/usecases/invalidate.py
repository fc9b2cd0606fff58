"""Invalidate: make entries unreachable at once, in O(1), and reclaim what they held."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from querycache.cache.two_tier import TwoTier
from querycache.cache.typed import ALL, derived_tag, file_tag, project_tag
from querycache.errors import TierError
from querycache.keys import Namer, Scope
from querycache.values import Kind


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

    async def files(self, paths: Sequence[str]) -> Invalidated:
        """All that was derived from these files: parses, `file:<path>` keys, and every search
        result and project context of the projects that hold them.
        """
        if not paths:
            return Invalidated(0, 0, 0, told=True)
        names, projects = await asyncio.to_thread(self._concerned, paths)
        tags = [file_tag(name) for name in names]
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
        return await self._cut([name], [])

    async def key(self, key: str) -> Invalidated:
        """One entry, by its full name or a caller's own key."""
        held = await self._core.remove([self._namer.full(key)])
        return Invalidated(0, held, 0, told=not self._core.generations.owed_keys)

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

    def _concerned(self, paths: Sequence[str]) -> tuple[list[str], list[str]]:
        """The paths, also as they really are, and the projects that hold them."""
        both = (name for path in paths for name in (path, os.path.realpath(path)))
        names = list(dict.fromkeys(both))
        return names, self._projects_of(names)

    def _drop_from_l1(self, tags: Sequence[str]) -> int:
        wanted = set(tags)
        entries = list(self._core.l1.entries.values())
        cut = [entry for entry in entries if any(tag in wanted for tag, _ in entry.tags)]
        return sum(self._core.l1.remove(entry.key) is not None for entry in cut)
