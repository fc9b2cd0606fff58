"""How the text of a setting becomes a value, and what each reader allows."""

from __future__ import annotations

import base64
import math
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from querycache.config.redis_url import SCHEMES, read_redis_url
from querycache.config.secret import Secret

Number = TypeVar("Number", int, float)


class Reader(msgspec.Struct, frozen=True):
    """Reads one setting. `read` raises `ValueError` for what is not allowed; `allowed` says in
    words what is.
    """

    allowed: str
    read: Callable[[str], object]


class Setting(msgspec.Struct, frozen=True):
    """What belongs to a field of a settings struct. `{kind}` in a variable stands for each
    kind.
    """

    variable: str
    reader: Reader
    help: str


_TRUTHS = {
    **dict.fromkeys(("true", "1", "yes", "on"), "true"),
    **dict.fromkeys(("false", "0", "no", "off"), "false"),
}
SWITCH = Reader(
    "true or false (also 1, 0, yes, no, on, off)", lambda t: _TRUTHS[t.lower()] == "true"
)


def integer(low: int, high: int) -> Reader:
    """A whole number from `low` to `high`, both included."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise ValueError
        return _within(int(text), low, high)

    return Reader(f"a whole number from {low} to {high}", read)


def number(low: float, high: float, unit: str = "", *, above: bool = False) -> Reader:
    """A finite number from `low` (or, with `above`, anything more) to `high`."""

    def read(text: str) -> float:
        if not re.fullmatch(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
            raise ValueError
        value = _within(float(text), low, high)
        if not math.isfinite(value) or (above and value == low):
            raise ValueError
        return value

    start = f"more than {low:g}, up to {high:.15g}" if above else f"from {low:g} to {high:.15g}"
    return Reader(f"a number {start}{f' {unit}' if unit else ''}", read)


_TEN_YEARS_S = 10 * 365 * 86400
SECONDS = number(0, _TEN_YEARS_S, "s", above=True)
INTERVAL = number(0.1, _TEN_YEARS_S, "s")
SECONDS_OR_NONE = number(0, _TEN_YEARS_S, "s (0: none)")
SHARE = number(0, 1, above=True)


def choice(*names: str) -> Reader:
    """One of `names`, in any case. Where `true` and `false` are among them, so are their other
    spellings.
    """
    spellings = {name.lower(): name for name in names}
    if "true" in spellings and "false" in spellings:
        spellings |= _TRUTHS
    return Reader("one of " + ", ".join(names), lambda text: spellings[text.lower()])


def matching(pattern: str, allowed: str) -> Reader:
    """A text that matches `pattern` as a whole."""

    def read(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError
        return text

    return Reader(allowed, read)


TEXT = matching(r"[^\x00-\x1f\x7f]{1,1024}", "a text of one line, up to 1024 characters")
HOST = matching(r"[A-Za-z0-9._:-]{1,253}", "a host name or an address")


def _path(text: str) -> Path:
    if "\0" in text:
        raise ValueError
    return Path(text)


PATH = Reader("a path; a relative one starts at the working directory", _path)


def _secret(text: str) -> Secret:
    if not re.fullmatch(r"[^\x00\r\n]{1,4096}", text):
        raise ValueError
    return Secret(text)


SECRET = Reader("a text of one line", _secret)


def _command(text: str) -> Secret:
    if not shlex.split(text):
        raise ValueError
    return _secret(text)


COMMAND = Reader("a command of one line, its quotes matched", _command)


def _token(text: str) -> Secret:
    if not re.fullmatch(r"[\x21-\x7e]{1,1024}", text):
        raise ValueError
    return Secret(text)


TOKEN = Reader("visible ASCII characters without spaces", _token)


def _key(text: str) -> Secret:
    if len(base64.b64decode(text, validate=True)) != 32:  # noqa: PLR2004 -- AES-256
        raise ValueError
    return Secret(text)


KEY = Reader("the base64 form of exactly 32 bytes", _key)


def _web_address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise ValueError
    _ = parts.port  # raises ValueError where it is no port
    return text


WEB_ADDRESS = Reader("an http:// or https:// address without a user or password", _web_address)


SECRET_ADDRESS = Reader(WEB_ADDRESS.allowed, lambda text: Secret(_web_address(text)))


def _redis_url(text: str) -> Secret:
    read_redis_url(text)
    return _secret(text)


REDIS_URL = Reader(
    "an address that begins with " + ", ".join(f"{scheme}://" for scheme in SCHEMES), _redis_url
)


def _within(value: Number, low: float, high: float) -> Number:
    if not low <= value <= high:
        raise ValueError
    return value
