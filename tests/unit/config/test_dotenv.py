"""`.env` files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querycache.config.dotenv import MAX_BYTES, parse_dotenv, read_dotenv
from querycache.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("A=1", {"A": "1"}),
        ("A=1\nA=2\n", {"A": "2"}),
        ("# comment\n\n  \n  # more\nA=1\n", {"A": "1"}),
        ("  export  A = b c \n", {"A": "b c"}),
        ("A=\nB=\n", {"A": "", "B": ""}),
        ("A=b#c # comment\n", {"A": "b#c"}),
        ("A= # comment\n", {"A": ""}),
        ("A='a # \"b\" \\n'\n", {"A": 'a # "b" \\n'}),
        ('A="a\\n\\"b\\" \\\\ $HOME" # comment\n', {"A": 'a\n"b" \\ $HOME'}),
        ('A="one\ntwo"\nB=3\n', {"A": "one\ntwo", "B": "3"}),
        ("A=1\r\nB='2'\r\n", {"A": "1", "B": "2"}),
        ("A=it's\n", {"A": "it's"}),
        ("A=x=y\n", {"A": "x=y"}),
        ("A= 'x'#c\n", {"A": "x"}),
        ("A=b" + " " * 60_000 + "c\n", {"A": "b" + " " * 60_000 + "c"}),
        ("DOTTED.NAME=1\n", {"DOTTED.NAME": "1"}),
    ],
)
def test_parsed(text: str, values: dict[str, str]):
    assert parse_dotenv(text) == values


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A=1\nnonsense\n", 2),
        ("1A=1\n", 1),
        ("A=1\n\n=2\n", 3),
        ("A='open\nB=2\n", 1),
        ('A="x" y\n', 1),
        ("A: 1\n", 1),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, text: str, line: int):
    (tmp_path / ".env").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"\.env, line {line}: expected NAME=VALUE"):
        read_dotenv(tmp_path / ".env")


def test_a_file_that_is_none_is_empty(tmp_path: Path):
    assert read_dotenv(tmp_path / ".env") == {}
    (tmp_path / ".env").mkdir()
    assert read_dotenv(tmp_path / ".env") == {}
    os.mkfifo(tmp_path / "pipe")
    assert read_dotenv(tmp_path / "pipe") == {}


def test_a_byte_order_mark_is_passed_over(tmp_path: Path):
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfA=1\n")
    assert read_dotenv(tmp_path / ".env") == {"A": "1"}


def test_a_file_too_large_or_not_text_is_refused(tmp_path: Path):
    (tmp_path / ".env").write_bytes(b"A=1\n" + b"#" * MAX_BYTES)
    with pytest.raises(ConfigError, match="larger than"):
        read_dotenv(tmp_path / ".env")
    (tmp_path / ".env").write_bytes(b"A=1\nB=\xff\n")
    with pytest.raises(ConfigError, match="line 2: not UTF-8"):
        read_dotenv(tmp_path / ".env")


@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), st.text(max_size=30)))
def test_what_is_quoted_comes_back(values: dict[str, str]):
    values = {name: text.replace("\r", "") for name, text in values.items()}
    escaped = {n: t.replace("\\", "\\\\").replace('"', '\\"') for n, t in values.items()}
    assert parse_dotenv("".join(f'{n}="{t}"\n' for n, t in escaped.items())) == values


@given(st.text(alphabet="A=#'\"\\ \n", max_size=200))
def test_any_text_ends(text: str):
    try:
        parse_dotenv(text)
    except ValueError as error:
        assert "line " in str(error)  # noqa: PT017 -- either way is right
