"""Globs over relative paths, as people know them from .gitignore.

`*` and `?` stay within one name, `**` spans folders, `[a-z]` and `[!a-z]` are one character. A
glob without an inner `/` matches at any depth; one that names a folder takes in all beneath it.
"""

from __future__ import annotations

import re
from functools import lru_cache

_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]/]*\]|\\.|.", re.DOTALL)


@lru_cache(maxsize=256)
def compile_glob(glob: str) -> re.Pattern[str]:
    """A pattern to `fullmatch` relative paths against."""
    body = glob.removeprefix("./").rstrip("/")
    anchored = "/" in body
    source = "".join(_translate(token) for token in _TOKEN.findall(body.removeprefix("/")))
    try:
        return re.compile(f"{'' if anchored else '(?:.*/)?'}{source}(?:/.*)?", re.DOTALL)
    except re.error:  # a character range that runs backwards matches nothing, as in a shell
        return re.compile(r"(?!)")


def _translate(token: str) -> str:  # noqa: PLR0911 -- a table
    match token:
        case "**/":
            return "(?:.*/)?"
        case "**":
            return ".*"
        case "*":
            return "[^/]*"
        case "?":
            return "[^/]"
        case _ if token[0] == "[" and len(token) > 1:
            negated = token[1] == "!"
            inner = re.sub(r"([\\\[\]^&~|])", r"\\\1", token[1 + negated : -1])
            return f"[{'^/' if negated else ''}{inner}]"
        case _ if token[0] == "\\" and len(token) > 1:
            return re.escape(token[1])
        case _:
            return re.escape(token)
