r"""A `.env` file: KEY=VALUE lines, with comments, `export` and quotes.

Single quotes keep everything, double quotes know `\n`, `\r`, `\t`, `\"`, `\$` and `\\`;
both may span lines. An unquoted value ends at ` #`. Nothing is expanded and nothing is run.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from querycache.errors import ConfigError

MAX_BYTES = 64 * 1024

_LINE = re.compile(
    r"""[^\S\n]*(?:
        (?:\#[^\n]*)?
      | (?:export[^\S\n]+)? (?P<name>[A-Za-z_][A-Za-z0-9_.]*) [^\S\n]* = (?:
            (?P<bare>(?![^\S\n]*['"])[^\n]*)
          | [^\S\n]* (?:'(?P<single>[^']*)' | "(?P<double>(?:[^"\\]|\\.)*)")
            [^\S\n]* (?:\#[^\n]*)?
        )
    )(?:\n|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}


def read_dotenv(path: Path) -> dict[str, str]:
    """The names and values in the file; empty where there is none. A name that stands twice has
    its last value.

    Raises `ConfigError` for a file that can't be read as such: the line, and never its value.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return {}  # a folder or a pipe of that name holds no settings
        data = os.read(handle, MAX_BYTES + 1)
    finally:
        os.close(handle)
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES} bytes")
    try:
        return parse_dotenv(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8") from error
    except ValueError as error:
        raise ConfigError(f"{path}, {error}") from error


def parse_dotenv(text: str) -> dict[str, str]:
    """Names and values of a file's text. Raises `ValueError` with the number of the line."""
    text = text.replace("\r\n", "\n")
    values: dict[str, str] = {}
    at = 0
    while at < len(text):
        found = _LINE.match(text, at)
        if found is None or found.end() == at:
            number = text.count("\n", 0, at) + 1
            raise ValueError(f"line {number}: expected NAME=VALUE, a comment or an empty line")
        at = found.end()
        if name := found["name"]:
            values[name] = _value(found)
    return values


def _value(found: re.Match[str]) -> str:
    if (single := found["single"]) is not None:
        return single
    if (double := found["double"]) is not None:
        return re.sub(r"\\(.)", _unescape, double, flags=re.DOTALL)
    return re.split(r"(?:^|\s)#", found["bare"], maxsplit=1)[0].strip()


def _unescape(found: re.Match[str]) -> str:
    return _ESCAPES.get(found[1], found[0])
