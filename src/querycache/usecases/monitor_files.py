"""Monitor files: cut what was derived from those whose content changed.

A file that is reported, or looks other than it is known, is read; the hash of its content decides.
What is known of a project's files is what its index knows. Of the files under another root the
hashes are learned behind, and one that is not known yet is taken for changed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

import msgspec

from querycache.clock import Clock
from querycache.events import FileChanged
from querycache.ports.observer import Observer
from querycache.ports.origins import FileStat, KnownFile, ProjectFiles

_BATCH = 64
_MARGIN_S = 0.05  # of a file's time stamp, which is that of the kernel's last tick
_CUTS_KEPT = 10_000

Known = Mapping[str, KnownFile]


class Change(msgspec.Struct, frozen=True):
    """A file whose entries were cut. `at`: wall seconds of the change; None where it may be from
    before the watch. `entries`: those dropped with it and the others of its batch.
    """

    path: str
    at: float | None
    entries: int


class Looked(msgspec.Struct):
    """What a look found: what changed, and what is known now of the files it read (None: gone, or
    not to be read).
    """

    changes: list[Change] = []
    known: dict[str, KnownFile | None] = {}


class Place:
    """A root that is looked at. `spellings`: the same root under further names, by which callers
    may have called its files; `began`: wall seconds at which the watch began.
    """

    def __init__(self, files: ProjectFiles, spellings: Sequence[str], began: float) -> None:
        self.files = files
        self.roots = tuple(dict.fromkeys((files.root, *spellings)))
        self.began = began
        self.complete_at: float | None = None  # when the last look at everything began


class MonitorFiles:
    """The use case."""

    def __init__(
        self,
        cut: Callable[[Sequence[str]], Awaitable[int]],
        observer: Observer,
        clock: Clock,
    ) -> None:
        """`cut` makes unreachable what was derived from files, by absolute path; it gives the
        number of entries.
        """
        self._cut = cut
        self._observer = observer
        self._clock = clock
        self._done: dict[str, float | None] = {}

    async def look(self, place: Place, known: Known, paths: Sequence[str] | None) -> Looked:
        """Looks at `paths`, or (None) at everything, and cuts what changed."""
        began = self._clock.wall()
        present, gone = await asyncio.to_thread(_suspects, place.files, known, paths)
        looked = Looked()
        for part in _parts(present):
            changed: dict[str, float] = {}
            for path, now, at in await asyncio.to_thread(_read, place.files, part):
                looked.known[path] = now
                seen = known.get(path)
                if seen is None or now is None or seen.content_hash != now.content_hash:
                    changed[path] = at
            await self._changed(place, changed, looked)
        for part in _parts(gone):
            looked.known.update(dict.fromkeys(part))
            await self._changed(place, dict.fromkeys(part, began), looked)
        if paths is None:
            place.complete_at = began
        return looked

    async def begin(self, place: Place) -> dict[str, KnownFile]:
        """The files under a root that no index knows, their hashes yet to be learned. What changed
        since the watch began is cut.
        """
        began = self._clock.wall()
        stats, young = await asyncio.to_thread(_listed, place.files, place.began - _MARGIN_S)
        for part in _parts(young):
            await self._changed(place, dict.fromkeys(part, began), Looked())
        place.complete_at = began
        return {stat.path: _known(stat, "") for stat in stats}

    async def learn(self, place: Place, known: dict[str, KnownFile]) -> None:
        """Learns the hashes that `begin` left open, of files that look as they did then."""
        waiting = [path for path, seen in known.items() if not seen.content_hash]
        for part in _parts(waiting):
            for path, now, _ in await asyncio.to_thread(_read, place.files, part):
                seen = known.get(path)
                if seen and now and not seen.content_hash and seen.stat == now.stat:
                    known[path] = now

    def tell(self, place: Place, looked: Looked, project: str) -> list[float]:
        """Tells the observer of what changed, now that nothing that was derived from it can be had
        any more; the seconds that this took, of each file that changed under watch.
        """
        now = self._clock.wall()
        lags = [max(0.0, now - change.at) for change in looked.changes if change.at is not None]
        for change in looked.changes:
            lag = 0.0 if change.at is None else max(0.0, now - change.at)
            path = f"{place.files.root}/{change.path}"
            self._observer.emit(FileChanged(path, round(lag, 4), change.entries, project))
        return lags

    async def _changed(self, place: Place, changed: Mapping[str, float], looked: Looked) -> None:
        """Cuts what was derived from files, unless it was after the same change."""
        root, since = place.files.root, place.complete_at
        done = self._done
        new = {path: at for path, at in changed.items() if done.get(f"{root}/{path}") != at}
        if not new:
            return
        names = [f"{spelled}/{path}" for path in new for spelled in place.roots]
        entries = await self._cut(names)
        if len(done) > _CUTS_KEPT:
            done.clear()
        for path, at in new.items():
            done[f"{root}/{path}"] = at or None
            # A file moved here may bear an old time stamp, but the last look did not see it.
            known_at = None if since is None else max(at, since)
            looked.changes.append(Change(path, known_at, entries))


def _suspects(
    files: ProjectFiles, known: Known, paths: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """The files that may have changed, and those that are gone."""
    if paths is None:
        stats = {stat.path: stat for stat in files.list().files}
        present = [
            path
            for path, stat in stats.items()
            if (seen := known.get(path)) is None or seen.stat != stat
        ]
        return present, sorted(known.keys() - stats.keys())
    present, gone, strange = list[str](), list[str](), list[str]()
    folders: set[str] | None = None
    for path in paths:
        if files.stat(path) is not None:
            (present if path in known else strange).append(path)
        elif path in known:
            gone.append(path)
        else:  # a folder that went, or what came and went
            folders = _folders(known) if folders is None else folders
            under = [one for one in known if one.startswith(f"{path}/")] if path in folders else []
            gone += under or [path]
    if strange:
        listed = {stat.path for stat in files.list().files}
        present += [path for path in strange if path in listed]
    return present, list(dict.fromkeys(gone))


def _folders(known: Known) -> set[str]:
    found: set[str] = set()
    for path in known:
        folder = path.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


def _read(files: ProjectFiles, paths: Sequence[str]) -> list[tuple[str, KnownFile | None, float]]:
    """Each file as it is now, with the wall seconds of its last change."""
    found: list[tuple[str, KnownFile | None, float]] = []
    for path in paths:
        at = _changed_at(files, path)
        file = files.read(path)
        now = None if file is None else _known(file.stat, file.content_hash)
        found.append((path, now, at))
    return found


def _listed(files: ProjectFiles, since: float) -> tuple[Sequence[FileStat], list[str]]:
    """All files, and the paths of those that changed since then."""
    stats = files.list().files
    return stats, [stat.path for stat in stats if _changed_at(files, stat.path) >= since]


def _changed_at(files: ProjectFiles, path: str) -> float:
    """Wall seconds; 0.0 where it is gone."""
    try:
        return os.lstat(f"{files.root}/{path}").st_ctime  # moving a file leaves its mtime
    except OSError:
        return 0.0


def _known(stat: FileStat, content_hash: str) -> KnownFile:
    return KnownFile(stat, content_hash, language="", chunks=0)


def _parts(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(paths), _BATCH):
        yield paths[start : start + _BATCH]
