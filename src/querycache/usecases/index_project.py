"""Index a project: bring the index to what its files hold now, and pay only for what changed.

Files that look unchanged (size, mtime, inode) are not opened; those whose content hash is known
are not parsed; chunks whose text the index or the cache knows are not embedded. Every batch is one
transaction, so an interrupted run keeps what it did and the next one goes on from there. One
process indexes a project at a time; the others wait. While one batch is embedded the next is read
and parsed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from querycache.cache.catalogue.file_parses import ParseKey
from querycache.cache.typed import TypedCache, file_tag
from querycache.clock import Clock
from querycache.errors import IndexBusyError
from querycache.keys import digest
from querycache.ports.origins import (
    Chunk,
    Embedded,
    FileStat,
    Index,
    IndexedChunk,
    IndexedFile,
    Indexes,
    IndexState,
    KnownFile,
    Lock,
    ParsedFile,
    Parser,
    ProjectFiles,
    SourceFile,
)

_BATCH_FILES = 64
_BATCH_BYTES = 4 * 1024 * 1024
_LOCK_PAUSE_S = 0.05


class Model(msgspec.Struct, frozen=True):
    """The embedding model as indexing needs it: what its vectors depend on, and how to get
    them.
    """

    identity: str
    dimensions: int
    embed: Callable[[Sequence[str]], Awaitable[Embedded]]


class Progress(msgspec.Struct, frozen=True):
    """How far a run is. `waiting`: another process indexes this project."""

    done: int
    total: int
    path: str = ""
    waiting: bool = False


class Indexed(msgspec.Struct, frozen=True):
    """What a run did. `embedded` counts texts really sent to the model; `generation` is the
    index's change number; `skipped` counts files passed over, by reason.
    """

    project: str
    files: int
    files_changed: int
    files_removed: int
    chunks: int
    embedded: int
    embedding_cache_hits: int
    generation: int
    took_ms: float
    skipped: Mapping[str, int]


class _Cut(msgspec.Struct, frozen=True):
    """A batch that was read and parsed: files of new content, stats of files whose content is the
    same, and paths that are gone.
    """

    files: list[tuple[SourceFile, ParsedFile]]
    touched: list[FileStat]
    gone: list[str]
    last: str


class _Run:
    """One run: what it wants, and what it has done so far."""

    def __init__(self, index: Index, model: Model, files: ProjectFiles, *, force: bool) -> None:
        self.index = index
        self.model = model
        self.files = files
        self.force = force
        self.known: dict[str, KnownFile] = {}
        self.changed = self.removed = self.sent = self.cached = self.done = 0


class IndexProject:
    """The use case. `text_of` makes the text that is embedded for a chunk, `text_version` names
    it.
    """

    def __init__(  # noqa: PLR0913 -- what indexing is made of
        self,
        *,
        indexes: Indexes,
        files_of: Callable[[str], ProjectFiles],
        parser: Parser,
        parses: TypedCache[ParseKey, ParsedFile],
        model: Callable[[], Awaitable[Model]],
        text_of: Callable[[str, Chunk, str], str],
        text_version: str,
        clock: Clock,
    ) -> None:
        self._indexes = indexes
        self._files_of = files_of
        self._parser = parser
        self._parses = parses
        self._model = model
        self._text_of = text_of
        self._text_version = text_version
        self._clock = clock

    async def __call__(
        self,
        name: str,
        root: str,
        *,
        force: bool = False,
        paths: Sequence[str] | None = None,
        progress: Callable[[Progress], None] = lambda _: None,
        patience_s: float | None = None,
    ) -> Indexed:
        """Indexes what changed under `root`; with `paths`, looks at these alone if it knows them.

        Raises `IndexBusyError` where another process does not finish within `patience_s` seconds
        (None: waits as long as it takes), and `EmbedderError`.
        """
        started = self._clock.monotonic()
        model = await self._model()  # first: loading it would keep the others waiting
        lock = await self._lock(name, progress, patience_s)
        try:
            versions = self.versions(model)
            index = await asyncio.to_thread(
                self._indexes.open,
                name,
                root=root,
                versions=versions,
                model=model.identity,
                dimensions=model.dimensions,
            )
            try:
                run = _Run(index, model, self._files_of(root), force=force)
                state, skipped = await self._bring_up(run, paths, progress)
            finally:
                index.close()
        finally:
            lock.release()
        return Indexed(
            project=name,
            files=state.files,
            files_changed=run.changed,
            files_removed=run.removed,
            chunks=state.chunks,
            embedded=run.sent,
            embedding_cache_hits=run.cached,
            generation=state.change,
            took_ms=(self._clock.monotonic() - started) * 1e3,
            skipped=skipped,
        )

    async def lags(self, index: Index, files: ProjectFiles) -> bool:
        """Whether anything under the root looks other than the index knows it; needs no model."""
        known = await asyncio.to_thread(index.known)
        listed = await asyncio.to_thread(files.list)
        return any(_difference(listed.files, known))

    def versions(self, model: Model) -> str:
        """What an index's digest depends on beside its content: chunker, model, embedded text."""
        return digest(self._parser.version, model.identity, self._text_version)

    async def _lock(
        self, name: str, progress: Callable[[Progress], None], patience_s: float | None
    ) -> Lock:
        started = self._clock.monotonic()
        while (lock := await asyncio.to_thread(self._indexes.try_lock, name, "index")) is None:
            progress(Progress(0, 0, waiting=True))
            if patience_s is not None and self._clock.monotonic() - started >= patience_s:
                raise IndexBusyError(
                    f"another process is still indexing {name!r} after {patience_s:g} s",
                    remedy="ask again later; what it has done so far can be searched",
                )
            await self._clock.sleep(_LOCK_PAUSE_S)
        return lock

    async def _bring_up(
        self, run: _Run, paths: Sequence[str] | None, progress: Callable[[Progress], None]
    ) -> tuple[IndexState, Mapping[str, int]]:
        run.known = await asyncio.to_thread(run.index.known)
        named = None if paths is None or run.force else await self._of_paths(run, paths)
        skipped: Mapping[str, int] = {}
        if named is None:
            listed = await asyncio.to_thread(run.files.list)
            skipped = listed.skipped
            wanted, removed = _difference(listed.files, run.known, force=run.force)
        else:
            wanted, removed = named
        if removed:
            await asyncio.to_thread(run.index.apply, [], removed, [])
            run.removed = len(removed)
        progress(Progress(0, len(wanted)))
        await self._batches(run, wanted, progress)
        completed = self._clock.wall() if named is None else None
        state = await asyncio.to_thread(run.index.apply, [], [], [], completed=completed)
        return state, skipped

    async def _of_paths(
        self, run: _Run, paths: Sequence[str]
    ) -> tuple[list[FileStat], list[str]] | None:
        """What these paths ask for; None where only a look at everything tells: a path that the
        index does not know may be new, ignored, or a folder.
        """
        if any(path not in run.known for path in paths):
            return None
        stats = await asyncio.to_thread(lambda: [run.files.stat(path) for path in paths])
        present = [stat for stat in stats if stat is not None]
        removed = [path for path, stat in zip(paths, stats, strict=True) if stat is None]
        return _difference(present, {stat.path: run.known[stat.path] for stat in present})[
            0
        ], removed

    async def _batches(
        self, run: _Run, wanted: Sequence[FileStat], progress: Callable[[Progress], None]
    ) -> None:
        parts = _batches(wanted)
        ahead = asyncio.ensure_future(self._cut(run, parts[0])) if parts else None
        try:
            for place, part in enumerate(parts):
                assert ahead is not None  # noqa: S101 -- for the type checker
                cut = await ahead
                following = parts[place + 1 : place + 2]
                ahead = asyncio.ensure_future(self._cut(run, following[0])) if following else None
                await self._store(run, cut)
                run.done += len(part)
                progress(Progress(run.done, len(wanted), cut.last))
        finally:
            if ahead is not None:
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)

    async def _cut(self, run: _Run, stats: Sequence[FileStat]) -> _Cut:
        """Reads and parses a batch, through the cache of parses."""
        read = await asyncio.to_thread(lambda: [run.files.read(stat.path) for stat in stats])
        fresh: list[SourceFile] = []
        touched: list[FileStat] = []
        gone = [stat.path for stat, file in zip(stats, read, strict=True) if file is None]
        for file in read:
            if file is None:
                continue
            known = run.known.get(file.stat.path)
            if known is not None and known.content_hash == file.content_hash and not run.force:
                touched.append(file.stat)
            else:
                fresh.append(file)
        parsed = await asyncio.gather(*(self._parse(run, file) for file in fresh))
        return _Cut(list(zip(fresh, parsed, strict=True)), touched, gone, stats[-1].path)

    async def _parse(self, run: _Run, file: SourceFile) -> ParsedFile:
        path = file.stat.path
        key = ParseKey(self._parser.version, self._parser.language_of(path), file.content_hash)

        async def load() -> ParsedFile:
            return await self._parser.parse(path, file.data)

        tags = (file_tag(f"{run.files.root}/{path}"),)
        parsed = (await self._parses.answer(key, load, tags=tags)).value
        if parsed.had_errors:  # perhaps for want of time: another try may do better
            await self._parses.remove(key)
        return parsed

    async def _store(self, run: _Run, cut: _Cut) -> None:
        """Embeds what is new of a batch and stores it, in one transaction."""
        texts: dict[str, str] = {}
        plans: list[tuple[SourceFile, ParsedFile, list[str]]] = []
        for file, parsed in cut.files:
            hashes: list[str] = []
            for chunk in parsed.chunks:
                text = self._text_of(file.stat.path, chunk, parsed.language)
                hashes.append(digest(text))
                texts[hashes[-1]] = text
            plans.append((file, parsed, hashes))
        vectors = {} if run.force else await asyncio.to_thread(run.index.vectors, list(texts))
        missing = {text: hash_ for hash_, text in texts.items() if hash_ not in vectors}
        embedded = await run.model.embed(list(missing))
        vectors |= {missing[text]: vector for text, vector in embedded.vectors.items()}
        files = [
            IndexedFile(
                file.stat,
                file.content_hash,
                parsed.language,
                tuple(
                    IndexedChunk(chunk, hash_, vectors[hash_])
                    for chunk, hash_ in zip(parsed.chunks, hashes, strict=True)
                ),
            )
            for file, parsed, hashes in plans
        ]
        gone = [path for path in cut.gone if path in run.known]
        await asyncio.to_thread(run.index.apply, files, gone, cut.touched)
        run.sent += embedded.sent
        run.cached += embedded.cached
        run.changed += len(files)
        run.removed += len(gone)


def _difference(
    present: Sequence[FileStat], known: Mapping[str, KnownFile], *, force: bool = False
) -> tuple[list[FileStat], list[str]]:
    """Files that look other than known, and paths that are known but not present."""
    wanted = [
        stat
        for stat in present
        if force or (seen := known.get(stat.path)) is None or seen.stat != stat
    ]
    return wanted, sorted(known.keys() - {stat.path for stat in present})


def _batches(stats: Sequence[FileStat]) -> list[list[FileStat]]:
    batches: list[list[FileStat]] = []
    room = 0
    for stat in stats:
        if not batches or len(batches[-1]) >= _BATCH_FILES or room < stat.size:
            batches.append([])
            room = _BATCH_BYTES
        batches[-1].append(stat)
        room -= stat.size
    return batches
