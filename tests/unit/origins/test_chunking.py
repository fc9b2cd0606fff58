"""Chunks partition any file, have bounded size, and break where a reader would."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querycache.origins.chunking import (
    LIMIT,
    LONGEST,
    SLACK,
    Cut,
    Weights,
    chunks_of,
    cut_lines,
)
from querycache.origins.languages import GRAMMARS
from querycache.origins.parser_worker import cut
from querycache.ports.origins import Chunk

LANGUAGES = [*GRAMMARS, "text"]

TOKENS = st.sampled_from(
    [
        *("def f(a):\n", "class A:\n", "    return 1\n", "@x\n", "# comment\n", "function f() {"),
        *(
            "}",
            "{",
            "(",
            ")",
            "[",
            "]",
            ";\n",
            ",",
            "\n",
            "\r\n",
            "\n\n\n",
            "\t",
            "    ",
            "<?php ",
        ),
        *("fn main() { }\n", "impl A for B {", "package p\n", "type T struct {", "<div id='a'>"),
        *("</div>", "/* ", " */", "// x\n", '"', "'", "`", '"""', "<<EOF\n", "EOF\n", "a: 1\n"),
        *(
            "- b\n",
            "# Head\n",
            "## Two\n",
            "---\n",
            "```\n",
            "[table]\n",
            "k = 1\n",
            "\ufeff",
            "\0",
        ),
        *("é", "漢字", "x" * 400, "word " * 90, "\u2028", "end\n", "#include <a>\n", "template <"),
    ]
)
FILES = st.one_of(
    st.binary(max_size=3_000), st.lists(TOKENS, max_size=60).map("".join).map(str.encode)
)


def chunks(language: str, data: bytes) -> tuple[Chunk, ...]:
    found = chunks_of(data, cut(language, data).cuts)
    check_partition(data, found)
    return found


def check_partition(data: bytes, found: tuple[Chunk, ...]) -> None:
    assert b"".join(data[chunk.start : chunk.end] for chunk in found) == data
    assert all(before.end == after.start for before, after in pairwise(found))
    line = 1
    for chunk in found:
        part = data[chunk.start : chunk.end]
        assert part
        assert chunk.text == part.decode("utf-8", "replace")
        assert chunk.start_line == line
        assert chunk.end_line == line + part[:-1].count(b"\n")
        line += part.count(b"\n")
        assert len(part.translate(None, b" \t\r\n\f\v")) <= LIMIT + SLACK
        assert len(part) <= LONGEST


@pytest.mark.parametrize("language", LANGUAGES)
@given(data=FILES)
def test_chunks_partition_any_bytes(language: str, data: bytes):
    chunks(language, data)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b" ",
        b"x",
        b"no newline at the end",
        b"\xef\xbb\xbfa = 1\r\nb = 2\r\n",
        b"\xff\xfe\x80 not utf-8 \xc3\n" * 200,
        b"\x01\x02\x7f" * 900,
        b"\n" * 20_000,
        b" " * 20_000,
        b"x" * 20_000,
        b"var a=1;" * 2_000,
        "漢".encode() * 7_000,
        b"[" * 3_000,
        b"{" * 3_000 + b"}" * 3_000,
        b"a: " * 2_000 + b"\n",
    ],
    ids=lambda data: repr(data[:12]),
)
def test_odd_files_are_partitioned(language: str, data: bytes):
    chunks(language, data)


@pytest.mark.parametrize("language", ["python", "javascript", "json", "text"])
@pytest.mark.parametrize(
    "data",
    [b"x" * 1_000_000, b"var a=1;" * 50_000, b"[" * 50_000, b"[" * 50_000 + b"]" * 50_000],
    ids=lambda data: repr(data[:12]),
)
def test_neither_size_nor_depth_breaks_it(language: str, data: bytes):
    chunks(language, data)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_same_bytes_are_cut_the_same_way(language: str):
    data = b"class A { f() { return 1 } }\n# Head\na: [1, 2]\n" * 100
    assert chunks(language, data) == chunks(language, data)


def test_characters_are_not_cut_in_two():
    data = "漢字".encode() * 5_000
    assert "\ufffd" not in "".join(chunk.text for chunk in chunks("text", data))


def test_lines_are_cut_at_blank_lines_first():
    paragraph = b"some words of a paragraph\n" * 40 + b"\n"
    data = paragraph * 6
    assert all(chunk.text.endswith("\n\n") for chunk in chunks("text", data))


def test_a_function_is_not_cut_where_it_fits():
    body = "".join(f"    a{n} = {n}\n" for n in range(80))
    data = "".join(f"def f{n}():\n{body}\n" for n in range(5)).encode()
    assert [chunk.symbol for chunk in chunks("python", data)] == [f"f{n}" for n in range(5)]
    assert all(chunk.text.startswith("def ") for chunk in chunks("python", data))


def test_a_large_function_is_cut_between_its_statements_under_its_name():
    body = "".join(f"    call(argument_{n}, {n})\n" for n in range(200))
    found = chunks("python", f"def large():\n{body}".encode())
    assert len(found) > 2
    assert {chunk.symbol for chunk in found} == {"large"}
    assert all(chunk.text.endswith("\n") for chunk in found)


def test_small_siblings_are_joined():
    data = "".join(f"def f{n}(): pass\n" for n in range(60)).encode()
    assert len(chunks("python", data)) < 10


def test_a_closing_bracket_stays_with_what_it_closes():
    body = "".join(f"  call(argument_{n}, {n});\n" for n in range(62))
    data = f"function f() {{\n{body}}}\nfunction g() {{ return 1; }}\n".encode()
    assert not any(chunk.text.startswith("}") for chunk in chunks("javascript", data))


@given(st.binary(max_size=5_000), st.data())
def test_weights_count_what_is_not_space(data: bytes, drawn: st.DataObject):
    start = drawn.draw(st.integers(0, len(data)))
    end = drawn.draw(st.integers(start, len(data)))
    expected = sum(byte not in b" \t\r\n\f\v" for byte in data[start:end])
    assert Weights(data)(start, end) == expected


@pytest.mark.parametrize("ends", [[], [1], [2, 1, 3], [3, 3], [4], [0, 3], [-1, 3]])
def test_cuts_that_do_not_partition_are_refused(ends: list[int]):
    with pytest.raises(ValueError, match="cuts"):
        chunks_of(b"abc", [Cut(end, "") for end in ends])


def test_an_empty_file_has_no_chunks():
    assert chunks_of(b"", cut_lines(b"")) == ()
