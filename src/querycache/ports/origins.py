"""The origins: the slow truths that the cache stands in front of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]
    """Shape (n, dimensions), rows of unit length (a text without content: a row of zeros)."""

Role = Literal["query", "document"]
Mode = Literal["hybrid", "semantic", "keyword"]


class Embedder(Protocol):
    """Turns texts into vectors.

    `identity` names all that a vector depends on beside its text and role: model, weights,
    dimensions, preprocessing, and for a remote model its address and a probe of its answers; equal
    identities give equal vectors. Reading `identity` or `dimensions` before `start` raises;
    `start` is idempotent, loads the model when first needed, and raises `EmbedderError`.
    """

    name: str
    batch: int

    @property
    def identity(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    async def start(self) -> None: ...

    async def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        """One unit row for each text, in order. Any number of texts; batches as the model wants
        them.
        """
        ...

    async def close(self) -> None: ...


class Embedded(msgspec.Struct, frozen=True):
    """Vectors (float32 bytes) by text, and what they cost: the texts that were sent to the model,
    and those that the cache had.
    """

    vectors: dict[str, bytes]
    sent: int
    cached: int


class FileStat(msgspec.Struct, frozen=True, gc=False):
    """A file as `stat` sees it: enough to know that it may have changed, not what it holds. `path`
    is relative, with `/`.
    """

    path: str
    size: int
    mtime_ns: int
    inode: int


class SourceFile(msgspec.Struct, frozen=True, gc=False):
    """A file as it was read: its stat from the same open descriptor, and the hash of these very
    bytes (32 hex digits).
    """

    stat: FileStat
    content_hash: str
    data: bytes


class Listed(msgspec.Struct, frozen=True):
    """The files of a project worth indexing, sorted by path, and how many were passed over, by
    reason.
    """

    files: tuple[FileStat, ...]
    skipped: Mapping[str, int]


class ProjectFiles(Protocol):
    """The files under one root. Never follows a link out of the root, never blocks on a pipe,
    never reads past the size limit.
    """

    root: str

    def list(self) -> Listed:
        """Every file that may be indexed (git's own list where there is git). Blocking: call it in
        a thread.
        """
        ...

    def stat(self, path: str) -> FileStat | None:
        """None where it is gone, or is no longer a regular file inside the root."""
        ...

    def read(self, path: str) -> SourceFile | None:
        """None where it is gone, too large, binary or generated. Blocking: call it in a thread."""
        ...

    def accepts(self, path: str) -> bool:
        """Whether a path, as a watcher reports it, may belong to the index (cheap; `list`
        decides). With a slash at its end: whether anything in that folder may.
        """
        ...


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """A piece of a file. The chunks of a file partition it byte for byte.

    Lines count from 1, inclusive; `start`/`end` are byte offsets. `symbol` is the dotted path of
    the definition it holds, or "".
    """

    start: int
    end: int
    start_line: int
    end_line: int
    symbol: str
    text: str


class ParsedFile(msgspec.Struct, frozen=True, gc=False):
    """A file cut into chunks. `language` is a lower-case name ("python"), "text" for what no
    grammar knows.
    """

    language: str
    chunks: tuple[Chunk, ...]
    had_errors: bool = False


class Parser(Protocol):
    """Cuts files into chunks. `version` changes whenever the same bytes might be cut
    differently.
    """

    version: str

    def language_of(self, path: str) -> str: ...

    async def parse(self, path: str, data: bytes) -> ParsedFile:
        """Never fails on content: a broken parse falls back to cutting by lines. Never takes
        longer than its limit.
        """
        ...

    async def close(self) -> None: ...


class Watcher(Protocol):
    """Reports paths that may have changed. A hint, never the truth: it may repeat, and it may lose
    events.
    """

    def watch(self, root: str, accepts: Callable[[str], bool]) -> AsyncIterator[frozenset[str]]:
        """Batches of relative paths until cancelled, or until the root is gone. A path may be that
        of a folder that went. An empty batch (the first one is) says: look at everything.
        """
        ...


class IndexedChunk(msgspec.Struct, frozen=True, gc=False):
    """A chunk with the hash of the text that was embedded and its vector (float32 bytes)."""

    chunk: Chunk
    text_hash: str
    vector: bytes


class IndexedFile(msgspec.Struct, frozen=True, gc=False):
    """A file with its chunks, ready to be stored."""

    stat: FileStat
    content_hash: str
    language: str
    chunks: tuple[IndexedChunk, ...]


class KnownFile(msgspec.Struct, frozen=True, gc=False):
    """What the index knows of a file."""

    stat: FileStat
    content_hash: str
    language: str
    chunks: int


class IndexState(msgspec.Struct, frozen=True):
    """Where an index stands.

    `digest` depends on what is indexed and on nothing else: path -> content hash, chunker and
    model versions; two machines with equal content have equal digests. `change` counts this
    index's own transactions that changed its digest (the `generation` of the JSON answers).
    `indexed_at`: wall seconds of the last completed run, 0 if none ever completed.
    """

    name: str
    root: str
    digest: str
    change: int
    files: int
    chunks: int
    indexed_at: float
    versions: str


class Hit(msgspec.Struct, frozen=True, gc=False):
    """A search hit. `score` is the fused score; the parts explain it (rank 0: not found by that
    arm; similarity is a cosine).
    """

    path: str
    start_line: int
    end_line: int
    symbol: str
    language: str
    score: float
    text: str
    semantic_rank: int = 0
    keyword_rank: int = 0
    similarity: float = 0.0


class Question(msgspec.Struct, frozen=True):
    """What is asked of an index. `vector` is None in keyword mode; `path` is a glob over relative
    paths.
    """

    text: str
    vector: bytes | None
    mode: Mode = "hybrid"
    limit: int = 10
    language: str = ""
    path: str = ""


class Ranked(msgspec.Struct, frozen=True, gc=False):
    """Hits, best first, and the digest of the index that they were found in: read in one snapshot.

    `stats` are the files of the hits as the index knows them, in the order of first appearance.
    """

    digest: str
    change: int
    hits: tuple[Hit, ...]
    stats: tuple[FileStat, ...]


class Index(Protocol):
    """One project's index: metadata, text and vectors in one store, one transaction per change.
    Blocking: call it in a thread.

    Readers see whole transactions only. A ranking depends on what is indexed and the question,
    never on the order in which it was indexed. Any number of processes read; a writer holds the
    `index` lock of `Indexes`.
    """

    def state(self) -> IndexState:
        """Cheap enough for every search."""
        ...

    def known(self) -> dict[str, KnownFile]: ...

    def stats(self, paths: Sequence[str]) -> dict[str, FileStat]:
        """What the index knows of these files; cheap enough for every search."""
        ...

    def vectors(self, text_hashes: Sequence[str]) -> dict[str, bytes]:
        """Vectors that the index already holds for these texts under its present model."""
        ...

    def apply(
        self,
        changed: Sequence[IndexedFile],
        removed: Sequence[str],
        touched: Sequence[FileStat],
        *,
        completed: float | None = None,
    ) -> IndexState:
        """Replaces and removes files, refreshes stats of files whose content is the same;
        `completed` (wall s) ends a run.
        """
        ...

    def search(self, question: Question) -> Ranked: ...

    def close(self) -> None: ...


class Indexes(Protocol):
    """All projects of this machine."""

    def names(self) -> list[str]: ...

    def find(self, root: str) -> str | None:
        """The name under which a root is indexed."""
        ...

    def open(
        self,
        name: str,
        *,
        root: str = "",
        versions: str = "",
        model: str = "",
        dimensions: int = 0,
    ) -> Index:
        """Opens an index; creates it where `root` is given. One of other `versions` is emptied
        first, in one transaction. `versions` name the `model` too: it is that part of them on
        which a text's vector depends.

        Raises `ProjectNotFoundError` without `root` where there is none.
        """
        ...

    def try_lock(self, name: str, purpose: Literal["index", "watch"]) -> Lock | None:
        """The right to do `purpose` on this machine, or None while a living process has it. Ends
        with the process.
        """
        ...

    def forget(self, name: str) -> bool:
        """Drops a project's index; what is open elsewhere notices."""
        ...


class Lock(Protocol):
    """A held right; `release` is idempotent."""

    def release(self) -> None: ...
