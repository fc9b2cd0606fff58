"""How a question is put to the words of an index."""

from __future__ import annotations

import pytest

from querycache.origins.index_search import MAX_WORDS, match_expression


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("parse the request", '"parse" OR "request"'),
        ("parse parse PARSE", '"parse"'),
        ("getUser_name", '"getuser" OR "name" OR "get" OR "user"'),
        ("the of", '"the" OR "of"'),
        ('say "hi" NEAR(x)', '"say" OR "hi" OR "near" OR "x"'),
        ("?! ->", ""),
        ("", ""),
    ],
)
def test_a_question_is_any_of_its_telling_words(text: str, expression: str) -> None:
    assert match_expression(text) == expression


def test_only_so_many_words_are_looked_up() -> None:
    asked = match_expression(" ".join(f"word{number}" for number in range(1000)))
    assert asked.count(" OR ") == MAX_WORDS - 1
