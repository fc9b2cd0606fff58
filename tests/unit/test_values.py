"""The small shared values."""

from __future__ import annotations

from querycache.values import Kind, Stamp


def test_kinds_are_the_words_of_the_names():
    assert [str(kind) for kind in Kind] == ["embedding", "search", "project", "file", "other"]
    assert f"{Kind.FILE}:{Kind.OTHER}" == "file:other"


def test_a_counter_that_was_lost_never_reads_as_before():
    assert Stamp(7, 1) == Stamp(7, 1)
    assert Stamp(7, 1) != Stamp(7, 2)
    assert Stamp(7, 1) != Stamp(8, 1)
