"""The text that is embedded for a chunk."""

from __future__ import annotations

from querycache.ports.origins import Chunk
from querycache.usecases.chunk_text import embedded_text

CHUNK = Chunk(0, 9, 1, 2, "Session.open", "def open(self): ...")


def test_it_is_the_name_and_the_code() -> None:
    assert embedded_text("a.py", CHUNK, "python") == "Session.open\ndef open(self): ..."


def test_code_without_a_name_stands_alone() -> None:
    assert embedded_text("a.py", Chunk(0, 5, 1, 1, "", "x = 1"), "python") == "x = 1"


def test_a_renamed_file_keeps_its_vectors() -> None:
    assert embedded_text("a.py", CHUNK, "python") == embedded_text("b/c.py", CHUNK, "python")
