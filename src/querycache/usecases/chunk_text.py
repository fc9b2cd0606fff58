"""The text that stands for a chunk before the embedder, the same for every model.

The path stays out of it: a vector then survives that its file is renamed, moved or checked out
elsewhere, and the keyword arm of a search knows the path anyway.
"""

from __future__ import annotations

from querycache.ports.origins import Chunk

CHUNK_TEXT = "symbol-1"
"""Part of an index's `versions`: changes when the same chunk would be given another text."""


def embedded_text(path: str, chunk: Chunk, language: str) -> str:  # noqa: ARG001 -- all a text may name
    """The dotted name of what the chunk holds, on a line of its own, and its code."""
    return f"{chunk.symbol}\n{chunk.text}" if chunk.symbol else chunk.text
