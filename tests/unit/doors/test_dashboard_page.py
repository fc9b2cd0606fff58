"""The page of the dashboard: every figure in its place, and nothing that is not escaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from tests.doors.http_kit import config_in

from querycache.assembly.app import App
from querycache.doors.dashboard.found import findings
from querycache.doors.dashboard.history import SERIES, Range
from querycache.doors.dashboard.live import news
from querycache.doors.dashboard.page import FILES, STATIC, page, shell
from querycache.doors.dashboard.sample import (
    EVENTS_SHOWN,
    Happened,
    Projects,
    Sample,
    happened,
    look,
    memory_of,
)
from querycache.doors.dashboard.shown import Shown, ago, count, percent, shown, size, span
from querycache.events import FileChanged, Hit, Invalidated, TierFailed
from querycache.observe.registry import Published
from querycache.ports.findings import Finding
from querycache.usecases.diagnose.figures import Memory, Thresholds
from querycache.usecases.list_projects import Listed
from querycache.usecases.show_status import Health, Snapshot

HOSTILE = "<img src=x onerror=alert(1)>\"'&</table><script>alert(2)</script>"
NO_LINES = Range(1, 0.0, {name: [] for name in SERIES})
VOID = {"meta", "link", "input"}


class Tree(HTMLParser):
    """What a page consists of; fails where its tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


async def sample_of(folder: Path, *projects: Listed) -> Sample:
    """A moment of a process in which something happened."""
    app = App(config_in(folder), door="serve")
    try:
        app.ring.emit(Invalidated("", HOSTILE, "here"))
        app.ring.emit(TierFailed(f"codebase_rag:other:_:{HOSTILE}", "sqlite", "read", HOSTILE))
        await app.keep_house()
        return await look(app, Projects(list(projects)), {"hit": 0.5})
    finally:
        await app.close()


def listed(name: str, stale: int = 0) -> Listed:
    return Listed(name, "/r", 1234, 5, 6, 0.0, stale, {})


@pytest.mark.asyncio
async def test_what_others_wrote_is_text(tmp_path: Path):
    text = page(shown(await sample_of(tmp_path, listed(HOSTILE, 3))), NO_LINES)
    tree = Tree(text)
    assert "<img" not in text
    assert sum(tag == "script" for tag, _ in tree.tags) == 1
    assert text.count("&lt;img src=x onerror=alert(1)&gt;&quot;&#x27;&amp;") >= 3
    assert "3 stale" in text


@pytest.mark.asyncio
async def test_nothing_is_inline_and_nothing_comes_from_elsewhere(tmp_path: Path):
    for text in (shell(), page(shown(await sample_of(tmp_path, listed("shop"))), NO_LINES)):
        for tag, attributes in Tree(text).tags:
            assert tag != "style"
            assert "style" not in attributes
            assert not any(name.startswith("on") for name in attributes)
            for name in ("src", "href"):
                assert (attributes.get(name) or "/").startswith(("/", "#"))
    files = {name: (STATIC / name).read_text() for name, _ in FILES.values()}
    namespace = '"http://www.w3.org/2000/svg"'
    assert not any("://" in text.replace(namespace, "") for text in files.values())
    script = files["dashboard.js"]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|eval\(|Function\(|write\(", script)
    assert not re.search(r"localStorage|sessionStorage|cookie|indexedDB", script)


@pytest.mark.asyncio
async def test_every_place_of_the_template_is_filled(tmp_path: Path):
    now = shown(await sample_of(tmp_path, listed("shop")))
    wanted: dict[str, set[str]] = {"data-show": set(), "data-rows": set(), "data-meter": set()}
    series: set[str] = set()
    for _, attributes in Tree(shell()).tags:
        for name in wanted.keys() & attributes:
            wanted[name].add(attributes[name] or "")
        series |= set((attributes.get("data-chart") or "").split())
    assert wanted["data-show"] == set(now.texts)
    assert wanted["data-rows"] == set(now.tables)
    assert wanted["data-meter"] == set(now.meters)
    assert series <= set(SERIES)


@pytest.mark.asyncio
async def test_rows_have_as_many_cells_as_their_tables_columns(tmp_path: Path):
    now = shown(await sample_of(tmp_path, listed("shop")))
    for _, attributes in Tree(shell()).tags:
        if "data-rows" in attributes:
            rows = now.tables[attributes["data-rows"] or ""]
            columns = (attributes["data-columns"] or "").split()
            assert {len(row.cells) for row in rows} <= {len(columns)}
            assert len({row.name for row in rows}) == len(rows)


def test_what_is_served_without_a_token_holds_no_figure():
    text = shell()
    assert 'data-state="locked"' in text
    assert not re.search(r'data-show="[^"]*">[^<]', text)
    assert page(Shown({}, {"door": "open"}, {}, {}), NO_LINES) != text


def test_the_page_names_what_it_shows():
    tags = Tree(shell()).tags
    identifiers = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(set(identifiers)) == len(identifiers)
    for tag, attributes in tags:
        if tag == "section":
            assert attributes.get("aria-labelledby") in {*identifiers, None}
            assert attributes.keys() & {"aria-labelledby", "aria-label"}
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or attributes["aria-label"]
        if tag == "th":
            assert attributes["scope"] == "col"
        if "tabindex" in attributes:
            assert attributes["role"] == "region"
            assert attributes["aria-label"]


def test_text_has_enough_contrast_in_light_and_dark():
    light, dark = re.findall(r":root \{(.*?)\}", (STATIC / "dashboard.css").read_text(), re.DOTALL)
    for block in (light, dark):
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
        for name in ("text", "soft", "ok", "warning", "error"):
            for ground in ("panel", "ground"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
        for name in ("s0", "s1", "s2", "s3"):
            assert contrast(colours[name], colours["panel"]) >= 3.0, name


def contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_words_for_figures():
    assert [size(n) for n in (None, 12, 1536, 300 * 2**20, 5 * 2**30)] == [
        *("–", "12 B", "1.5 KB", "300 MB", "5.0 GB")  # noqa: RUF001 -- a dash
    ]
    assert [span(n) for n in (2.5e-6, 0.012, 3.0, 300.0, 9000.0, 260_000.0)] == [
        *("2.5 µs", "12 ms", "3 s", "5 min", "2 h", "3 days")
    ]
    assert (percent(0.5, 0), percent(0.982), count(12_345)) == ("–", "98.2 %", "12,345")  # noqa: RUF001 -- a dash
    assert (ago(10.0, 10.2), ago(10.0, 75.0), ago(12.0, 10.0)) == ("now", "1 min ago", "now")


def told(pid: int, *rows: tuple[object, ...], **more: object) -> Published:
    plain = [list(row) for row in rows]
    return Published(pid, 0.0, "mcp", 0.0, {"events": plain, **more})


def test_events_that_differ_in_their_key_alone_are_one_line():
    failed = TierFailed.__name__, FileChanged.__name__
    processes = [
        told(1, *((n, failed[0], f"k{n}", "redis", "read", "refused") for n in range(99))),
        told(2, *((n, failed[1], f"/f{n}", 0.1, 1, "shop") for n in range(3))),
        told(3, (5.0, Hit.__name__, "k", 1.0, False), (6.0, "Unknown", "k"), ("x", failed[0])),
    ]
    found = happened(processes)
    assert [(one.event, one.times) for one in found if one.event == failed[0]] == [(failed[0], 99)]
    assert found[0].detail["key"] == "k98"
    assert [one.detail["key"] for one in found if one.event == failed[1]] == ["/f2", "/f1", "/f0"]
    many = [told(9, *((n, failed[1], f"/f{n}", 0.1, 1, "") for n in range(99)))]
    assert len(happened(many)) == EVENTS_SHOWN
    cut, met = (
        (1.0, "Invalidated", "", "file:/f", "here"),
        (2.0, "Invalidated", "k", "file:/f", ""),
    )
    assert [one.at for one in happened([told(4, cut, met)])] == [1.0]  # a read met it: no news


def test_findings_are_those_of_now_and_what_processes_told():
    health = Health(
        "degraded",
        False,
        None,
        {},
        {},
        None,
        0.0,
        "sqlite",
        False,
        None,
        None,
        None,
        None,
        ("L2 (sqlite) does not answer: disk full", "changes under /r may be missed"),
    )
    alert = {"name": "hit_rate.low", "severity": "warning", "evidence": "30 %", "remedy": "warm"}
    short = Memory(used=95, limit=100, source="cgroup", rss=90)
    processes = [
        told(1, alerts=[alert, {"name": "broken"}]),
        told(2, leaks=[{**alert, "name": "memory.leak", "severity": "error"}], alerts="none"),
    ]
    found = findings(health, short, processes, Thresholds(), lambda told: told.pid == 1)
    assert [one.severity for one in found] == sorted(one.severity for one in found)
    by_name = {one.name: one for one in found}
    assert set(by_name) == {
        *("store.unusable", "watcher.dead", "memory.pressure", "hit_rate.low", "memory.leak")
    }
    assert by_name["hit_rate.low"] == msgspec.convert(alert, Finding)
    assert by_name["memory.leak"].evidence == "mcp 2: 30 %"
    assert all(one.remedy for one in found)


def test_memory_is_read_as_far_as_it_was_told():
    did = Snapshot(kinds={}, l1_bytes=5, l1_max_bytes=10)
    assert memory_of(did, None).rss is None
    whole = {
        "rss_bytes": 7,
        "used_bytes": 8,
        "limit_bytes": 9,
        "source": "cgroup",
        "level": "normal",
    }
    read = memory_of(did, whole)
    assert (read.rss, read.used, read.limit, read.source, read.level) == (
        7,
        8,
        9,
        "cgroup",
        "normal",
    )


def test_the_news_of_a_slow_process_are_told_too():
    def one(process: str, at: float) -> Happened:
        return Happened(at, process, "Invalidated", {})

    told: dict[str, float] = {}
    first = news([one("serve 1", 12.5), one("mcp 2", 11.0), one("mcp 2", 9.0)], told, 10.0)
    assert [(event.process, event.at) for event in first] == [("mcp 2", 11.0), ("serve 1", 12.5)]
    later = [one("serve 1", 12.5), one("mcp 2", 12.0), one("mcp 2", 11.0), one("mcp 3", 10.5)]
    assert news(later, told, 10.0) == [one("mcp 3", 10.5), one("mcp 2", 12.0)]
    assert news(later, told, 10.0) == []
