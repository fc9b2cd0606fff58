"""Names and their parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querycache.origins.identifiers import split_identifiers


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("getHTTPResponse_code", "getHTTPResponse_code get HTTP Response code"),
        ("user_name", "user_name user name"),
        ("__init__", "__init__ init"),
        ("MAX_SIZE", "MAX_SIZE MAX SIZE"),
        ("HTTP2Server", "HTTP2Server HTTP2 Server"),
        ("x86_64", "x86_64 x86 64"),
        ("größeÄndern", "größeÄndern größe Ändern"),
        ("Response HTTP cache", "Response HTTP cache"),
        ("self.foo(bar, 1)\n\t+ x", "self foo bar 1 x"),
        ("世界 helloWorld", "世界 helloWorld hello World"),
        ("_ __", "_ __"),
        ("", ""),
        (" \n", ""),
        ("\ud800aB", "\ud800aB \ud800a B"),
    ],
)
def test_splits(text: str, words: str) -> None:
    assert split_identifiers(text) == words


def test_what_is_too_long_for_a_name_stays_whole() -> None:
    blob = "aB" * 200
    assert split_identifiers(f"x={blob}") == f"x {blob}"


@given(st.text())
def test_every_word_stays_and_the_parts_add_nothing(text: str) -> None:
    words = split_identifiers(text).split()
    spaced = "".join(c if not c.isascii() or c.isalnum() or c == "_" else " " for c in text)
    wanted = spaced.split()
    assert set(wanted) <= set(words)
    assert all(any(word in whole for whole in wanted) for word in words)


@given(st.text(alphabet="aAbB_1 ."))
def test_the_same_again_and_again(text: str) -> None:
    assert split_identifiers(text) == split_identifiers(text)
    assert set(split_identifiers(split_identifiers(text)).split()) == set(
        split_identifiers(text).split()
    )


def test_more_words_than_are_remembered() -> None:
    text = " ".join(f"word{number}Of" for number in range(40_000))
    words = split_identifiers(text).split()
    assert words[:3] == ["word0Of", "word0", "Of"]
    assert len(words) == 120_000
