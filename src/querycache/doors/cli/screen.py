"""What reaches the terminal: answers on standard output, all else on standard error, and nothing
in either that could steer the terminal.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import IO, TYPE_CHECKING, NoReturn

import msgspec

if TYPE_CHECKING:
    from rich.console import Console

_UNTOLD_WIDTH = 160  # columns of what is no terminal
# C0 without tab and newline, DEL, C1, and what reorders or hides the text around it
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
)
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """`text` with whatever could steer a terminal spelled out; newlines and tabs stay."""
    return _UNSAFE.sub(_spelled, text)


def line(text: str) -> str:
    """The same on one line."""
    return clean(text).replace("\n", "\\n").replace("\t", " ")


def answer(value: object) -> None:
    """Prints the one JSON object of a `--json` answer."""
    plain = msgspec.to_builtins(value, str_keys=True)
    try:
        text = msgspec.json.encode(plain).decode()
    except UnicodeEncodeError:  # a file name that is not UTF-8
        text = json.dumps(plain)
    try:
        sys.stdout.write(_UNSAFE_IN_JSON.sub(_escaped, text) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        hang_up()


def say(text: str) -> None:
    """Prints a line on standard error."""
    err().print(line(text), markup=False, highlight=False, soft_wrap=True)


def out() -> Console:
    """Standard output."""
    return _console(sys.stdout)


def err() -> Console:
    """Standard error."""
    return _console(sys.stderr)


def hang_up() -> NoReturn:
    """Ends quietly: whoever read our output has enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(0)


def _console(file: IO[str]) -> Console:
    from rich.console import Console

    class Quiet(Console):
        """A console whose reader may leave."""

        def on_broken_pipe(self) -> None:
            hang_up()

    width = None if file.isatty() else _UNTOLD_WIDTH
    return Quiet(file=file, width=width, highlight=False)


def _spelled(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number <= 0xFF else f"\\u{number:04x}"  # noqa: PLR2004 -- 2 digits


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
