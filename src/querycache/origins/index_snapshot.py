"""What a process keeps in memory of an index: the names of its files and, once asked for, the
matrix of its vectors. A snapshot belongs to one change of one index file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from querycache.origins.index_content import Meta, read_names, read_vectors
from querycache.origins.index_search import FileName
from querycache.origins.index_store import Session
from querycache.origins.index_vectors import Matrix


@dataclass(frozen=True)
class Snapshot:
    """The index as it was at `change`; `matrix` is None until a semantic search needs it."""

    birth: bytes = b""
    change: int = -1
    files: Mapping[int, FileName] = field(default_factory=dict[int, FileName])
    matrix: Matrix | None = None

    def precedes(self, meta: Meta) -> bool:
        return self.birth != meta.birth or self.change <= meta.change

    def current(self, session: Session, meta: Meta, *, vectors: bool) -> Snapshot:
        """The snapshot of the change that `session` reads, which this one precedes.

        A file that changes gets a new number, and numbers only grow: what is new is behind all
        that was known, and only that is read.
        """
        same = self.birth == meta.birth
        if same and self.change == meta.change and (self.matrix is not None or not vectors):
            return self
        known: Mapping[int, FileName] = self.files if same else {}
        numbers = {row[0] for row in session.rows("SELECT id FROM file")}
        new, gone = numbers - known.keys(), known.keys() - numbers
        since = min(new, default=1 << 62)
        files = {number: name for number, name in known.items() if number not in gone}
        files |= read_names(session, since)
        matrix = self.matrix if same else None
        if matrix is not None:
            added = read_vectors(session, since, meta.dimensions)
            matrix = matrix.changed(sorted(gone), added)
        elif vectors:
            added = read_vectors(session, 0, meta.dimensions)
            matrix = Matrix.empty(meta.dimensions).changed((), added)
        return Snapshot(meta.birth, meta.change, files, matrix)
