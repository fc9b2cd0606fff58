"""The page as it is served: the template with every figure in its place.

The template marks its places, and `dashboard.js` fills the same ones later: `data-show` a text,
`data-state-of` a state, `data-meter` a width, `data-rows` a table's rows, `data-chart` lines,
`data-top` the end of a scale, `data-from` its beginning. Whatever is filled in is escaped; the
template itself is ours.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from querycache.doors.dashboard.chart import GROUPS, SPARK_GROUPS, across, drawn, top_of
from querycache.doors.dashboard.history import Range
from querycache.doors.dashboard.shown import Row, Shown, size, span

STATIC = Path(__file__).parent / "static"
FILES = {
    "/dashboard/dashboard.css": ("dashboard.css", "text/css; charset=utf-8"),
    "/dashboard/dashboard.js": ("dashboard.js", "text/javascript; charset=utf-8"),
    "/dashboard/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""What the page consists of beside itself: file and media type by path."""

_MARKED = re.compile(r"<(\w+)([^<>]*\bdata-(?:show|state-of|meter|rows|chart|top|from)=[^<>]*)>")
_ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')
_SPARK = 'viewBox="0 0 600 100" preserveAspectRatio="none" aria-hidden="true"'


def shell() -> str:
    """The page without any figure, which asks for the token."""
    return _filled(Shown({}, {"door": "locked"}, {}, {}), Range(1, 0.0, {}))


def page(now: Shown, seen: Range) -> str:
    """The page with its figures, and with the lines of the last ten minutes."""
    return _filled(now, seen)


def _filled(now: Shown, seen: Range) -> str:
    def fill(found: re.Match[str]) -> str:
        given = dict(_ATTRIBUTE.findall(found[2]))
        more = ""
        if (state := now.states.get(given.get("data-state-of", ""))) is not None:
            more += f' data-state="{escape(state)}"'
        if (share := now.meters.get(given.get("data-meter", ""))) is not None:
            more += f' width="{share:.2%}"'
        return f"<{found[1]}{found[2]}{more}>{_inside(given, now, seen)}"

    return _MARKED.sub(fill, (STATIC / "dashboard.html").read_text(encoding="utf-8"))


def _inside(given: dict[str, str], now: Shown, seen: Range) -> str:
    inside = ""
    if "data-show" in given:
        inside = escape(now.texts.get(given["data-show"], ""))
    elif "data-rows" in given:
        inside = _rows(now.tables.get(given["data-rows"], []), given, seen)
    elif "data-chart" in given:
        groups = SPARK_GROUPS if given.get("class") == "spark" else GROUPS
        inside = _lines(seen, given["data-chart"], given["data-scale"], groups)
    elif "data-top" in given:
        lines = [seen.series.get(name, []) for name in given["data-top"].split()]
        inside = escape(size(top_of(lines)))
    elif "data-from" in given:
        inside = f"{span(across(seen) * seen.step_s)} ago"
    return inside


def _rows(rows: list[Row], given: dict[str, str], seen: Range) -> str:
    columns = given["data-columns"].split()
    if not rows and "data-empty" in given:
        return f'<tr><td class="empty" colspan="{len(columns)}">{given["data-empty"]}</td></tr>'
    return "".join(
        f'<tr data-state="{escape(row.state)}">'
        + "".join(
            _cell(column, text, row.name, seen)
            for column, text in zip(columns, row.cells, strict=True)
        )
        + "</tr>"
        for row in rows
    )


def _cell(column: str, text: str, name: str, seen: Range) -> str:
    what, _, chart = column.partition(":")
    if what == "spark":
        series, _, scale = chart.partition(":")
        lines = _lines(seen, f"{series}.{name}", scale, SPARK_GROUPS)
        chart = f'data-chart="{escape(f"{series}.{name}")}" data-scale="{scale}"'
        return f'<td class="spark"><svg class="spark" {chart} {_SPARK}>{lines}</svg></td>'
    if what == "name":
        return f'<th scope="row" class="name">{escape(text)}</th>'
    if what == "code":
        return f'<td class="code">{f"<code>{escape(text)}</code>" if text else ""}</td>'
    return f'<td class="{what}">{escape(text)}</td>'


def _lines(seen: Range, chart: str, scale: str, groups: int) -> str:
    paths = drawn(seen, chart.split(), scale, groups)
    return "".join(
        f'<path data-series="{escape(name)}" d="{d}"></path>' for name, d in paths.items()
    )
