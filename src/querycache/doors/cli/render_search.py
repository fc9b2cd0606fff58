"""Search results, for people."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rich.text import Text

from querycache.doors.cli.render import span
from querycache.doors.cli.screen import clean, line

if TYPE_CHECKING:
    from querycache.ports.origins import Hit
    from querycache.usecases.search_code import Searched

_SHOWN = 6  # lines of a snippet
_WIDEST = 110  # characters of a line
_GUTTER = 5  # columns around a line's number
_SHORTEST_WORD = 3
_EMPTY_WORDS = frozenset(
    "and are can does for from how the this that was what when where which who why with".split()  # noqa: SIM905 -- legible
)


def searched(found: Searched, *, coloured: bool, columns: int = 160) -> Text:
    """Each result with the lines that fit the question best, then where the answer came from."""
    text = Text()
    words = _words(found.query)
    for hit in found.results:
        text.append(f"{line(hit.path)}:{hit.start_line}-{hit.end_line}", "bold cyan")
        text.append(f"  {line(hit.symbol)}" if hit.symbol else "", "bold")
        text.append(f"  {hit.score:.4f}\n", "dim")
        text.append(_snippet(hit, words, coloured=coloured, columns=columns))
        text.append("\n")
    if not found.results:
        text.append("nothing found\n")
    for path in found.left_out:
        text.append(f"left out, it is changing: {line(path)}\n", "yellow")
    text.append(_origin(found), "dim")
    return text


def _words(query: str) -> list[str]:
    """The words of a question that are worth marking."""
    words = re.findall(r"\w+", query)
    return [w for w in words if len(w) >= _SHORTEST_WORD and w.lower() not in _EMPTY_WORDS]


def _origin(found: Searched) -> str:
    cache = found.cache
    if cache.hit:
        told = [f"from {cache.tier.upper()}", f"{span(cache.age_s)} old"]
    else:
        told = [f"computed ({cache.miss_reason or 'not cached'})"]
    told += [line(found.project), f"generation {cache.generation}", span(found.took_ms / 1e3)]
    if cache.hit:
        told.append(f"saved {span(cache.saved_ms / 1e3)}")
    return " · ".join(told)


def _snippet(hit: Hit, words: list[str], *, coloured: bool, columns: int) -> Text:
    code = clean(hit.text.expandtabs(4)).split("\n")
    first = _best_window(code, words)
    shown = code[first : first + _SHOWN]
    while shown and not shown[-1].strip():
        shown.pop()
    styled = _coloured("\n".join(shown), hit.language) if coloured else Text("\n".join(shown))
    styled.highlight_words(words, "bold underline", case_sensitive=False)
    text = Text()
    width = len(str(hit.start_line + first + _SHOWN))
    for number, part in enumerate(styled.split("\n", allow_blank=True), hit.start_line + first):
        part.truncate(max(1, min(_WIDEST, columns - width - _GUTTER)), overflow="ellipsis")
        text.append(f"  {number:>{width}} ", "dim")
        text.append("│ ", "dim")
        text.append(part)
        text.append("\n")
    return text


def _best_window(code: list[str], words: list[str]) -> int:
    """Where the lines begin that hold most of the words; the chunk's beginning if any are as
    good.
    """
    lowered = [word.lower() for word in words]
    found = [{word for word in lowered if word in part.lower()} for part in code]
    starts = range(max(1, len(code) - _SHOWN + 1))

    def worth(start: int) -> int:
        window = found[start : start + _SHOWN]
        return len(set[str]().union(*window))

    return max(starts, key=lambda start: (worth(start), -start))


def _coloured(code: str, language: str) -> Text:
    from rich.syntax import Syntax

    lexer = language.replace("c-sharp", "csharp")
    text = Syntax(code, lexer, theme="ansi_dark", background_color="default").highlight(code)
    text.rstrip()
    return text
