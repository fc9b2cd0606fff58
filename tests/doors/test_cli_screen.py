"""What reaches the terminal, and how errors are told."""

from __future__ import annotations

import json

import pytest

from querycache.doors.cli import screen
from querycache.doors.cli.render import size, span
from querycache.doors.cli.running import failed
from querycache.errors import EmbedderError, UsageError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, grün, 漢字\tand\nlines", "plain, grün, 漢字\tand\nlines"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\r\x9b2J\x7f", "\\x0d\\x9b2J\\x7f"),
        ("a\u202eb\u2066c\u200bd\ufeff", "a\\u202eb\\u2066c\\u200bd\\ufeff"),
    ],
)
def test_what_could_steer_a_terminal_is_spelled_out(text: str, shown: str):
    assert screen.clean(text) == shown


def test_a_line_is_one_line():
    assert screen.line("a\nb\tc") == "a\\nb c"


def test_a_json_answer_is_harmless_and_equal(capsys: pytest.CaptureFixture[str]):
    value = {"name": "\x1b\x9b\u202e\u2028 grün", "lone": "\udc80", "rate": 0.5}
    screen.answer(value)
    said = capsys.readouterr()
    assert json.loads(said.out) == value
    assert said.out.count("\n") == 1
    assert not set(said.out) & set("\x1b\x9b\u202e\u2028")
    screen.answer({"name": "grün", "nothing": float("nan")})
    assert capsys.readouterr().out == '{"name":"grün","nothing":null}\n'


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (EmbedderError("no model", remedy="install it"), 1, "error: no model; install it"),
        (UsageError("an empty query"), 2, "error: an empty query"),
        (
            ValueError("odd\nthing"),
            1,
            r"error: ValueError: odd\nthing (querycache --debug shows where)",
        ),
        (ExceptionGroup("tasks", [UsageError("inside")]), 2, "error: inside"),
        (
            PermissionError(13, "Permission denied", "/kept/l2"),
            1,
            (
                "error: /kept/l2: Permission denied; QUERYCACHE_HOME says where data is kept"
                " (querycache --debug shows where it failed)"
            ),
        ),
    ],
)
def test_an_error_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], error: Exception, status: int, told: str
):
    assert failed(error, debug=False) == status
    assert capsys.readouterr() == ("", f"{told}\n")
    assert failed(error, debug=True) == status
    said = capsys.readouterr().err
    assert said.endswith(f"\n{told}\n")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.00123, "1.23 ms"), (0.25, "250 ms"), (12.0, "12 s"), (600.0, "10 min"), (1e6, "12 days")],
)
def test_spans(seconds: float, told: str):
    assert span(seconds) == told


@pytest.mark.parametrize(
    ("count", "told"), [(12, "12 B"), (2048, "2.0 KB"), (3 << 20, "3.0 MB"), (2 << 30, "2.0 GB")]
)
def test_sizes(count: int, told: str):
    assert size(count) == told
