"""The demonstration, for people."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from querycache.doors.cli.demo import Asked, Shown
from querycache.doors.cli.render import cell, span, table
from querycache.doors.cli.screen import line

_RUNS = {"first": "first", "again": "again", "new process": "in a new process"}
_TIERS = {"none": ("-", "dim"), "l1": ("L1", "bold green"), "l2": ("L2", "bold cyan")}


def demonstration(shown: Shown) -> Group:
    """What was asked and what it cost, then what was saved."""
    first, again = shown.indexed, shown.indexed_again
    title = Text()
    title.append(line(shown.project), "bold")
    title.append(f": {first.files:,} files, {first.chunks:,} chunks, ")
    title.append(f"{first.embedded:,} texts embedded in {span(first.took_ms / 1e3)}\n")
    reindexed = Text(f"\nindexed again, unchanged: {again.embedded} texts embedded, ")
    reindexed.append(f"{again.files_changed} of {again.files:,} files changed")
    reindexed.append(f", {span(again.took_ms / 1e3)}")
    return Group(title, _table(shown), reindexed, _summary(shown))


def _table(shown: Shown) -> Table:
    numbers = ("time", "embedding calls", "saved")
    made = table("question and best answer", "asked", "tier", *numbers, numbers=numbers)
    for row in range(0, len(shown.asked), len(_RUNS)):
        runs = shown.asked[row : row + len(_RUNS)]
        for what, asked in zip(_what(runs[0]), runs, strict=True):
            tier, style = _TIERS[asked.tier]
            made.add_row(
                what,
                _RUNS[asked.run],
                Text(tier, style),
                span(asked.took_ms / 1e3),
                str(asked.embedded),
                str(asked.embeddings_saved) if asked.run != "first" else "-",
            )
        made.add_row()
    return made


def _what(asked: Asked) -> tuple[Text, Text, Text]:
    """Three lines for the three runs of a question."""
    if not asked.results:
        return cell(asked.query, "bold"), Text("nothing found", "dim"), Text()
    best = asked.results[0]
    place = cell(f"  {best.path}:{best.start_line}-{best.end_line}", "cyan")
    return cell(asked.query, "bold"), place, cell(f"  {best.symbol}", "dim")


def _summary(shown: Shown) -> Text:
    def of(run: str) -> list[Asked]:
        return [asked for asked in shown.asked if asked.run == run]

    first, later = of("first"), of("again") + of("new process")
    text = Text()
    text.append(f"{len(shown.asked)} answers", "bold")
    text.append(f", {len(later)} of them from the cache, every ranking the same as at first; ")
    text.append(f"{sum(asked.embedded for asked in first)} embedding calls made, ")
    text.append(f"{sum(asked.embeddings_saved for asked in later)} saved", "bold green")
    text.append(f"; {span(shown.took_ms / 1e3)} in all")
    return text
