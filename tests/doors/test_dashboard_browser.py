"""The dashboard in a real browser: its figures, its updates, its manners."""

from __future__ import annotations

import asyncio
import re
import shutil
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, sync_playwright
from tests.doors.http_kit import Peer, config_in, sample, serving

from querycache.doors.dashboard import chart
from querycache.doors.dashboard.shown import count, percent, size, span

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
HOSTILE = "<img src=x onerror=document.title='hacked'>"
TOKEN = "a-token-of-the-test"  # noqa: S105 -- not a secret
LIVE = "#live[data-state=live]"
DRAWN = 'data-series="hit" d="M'

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: `make needs`"),
]

T = TypeVar("T")


class Served:
    """An App behind a server in a thread of its own."""

    def __init__(self, peer: Peer, loop: asyncio.AbstractEventLoop) -> None:
        self.peer = peer
        self._loop = loop

    def run(self, work: Awaitable[T]) -> T:
        """Does something in the server's loop."""

        async def waited() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(waited(), self._loop).result(20)

    def search(self, query: str) -> None:
        assert self.run(self.peer.post("/search", {"query": query})).status == 200

    def stats(self) -> dict[str, Any]:
        return self.run(self.peer.get("/stats/cache")).json


@contextmanager
def served(folder: Path, **variables: str) -> Generator[Served]:
    """A sample project, indexed and served."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    serve = serving(config_in(folder, **variables), [str(sample(folder / "shop"))])
    try:
        peer = asyncio.run_coroutine_threadsafe(serve.__aenter__(), loop).result(20)
        given = {"Authorization": f"Bearer {TOKEN}"} if variables else {}
        made = Served(peer, loop)
        searched = made.run(peer.post("/search", {"query": "value added tax"}, **given))
        assert searched.status == 200
        yield made
    finally:
        asyncio.run_coroutine_threadsafe(serve.__aexit__(None, None, None), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("shop")) as made:
        yield made


@contextmanager
def opened(
    browser: Browser,
    peer: Peer,
    *,
    wait: str = LIVE,
    **options: Any,  # noqa: ANN401 -- the context's own
) -> Generator[Page]:
    """The page, of which everything is noted that a well-behaved one does not do."""
    context: BrowserContext = browser.new_context(**options)
    wrong: list[str] = []
    page = context.new_page()
    page.on("console", lambda said: wrong.append(f"console: {said.text}"))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on(
        "request",
        lambda asked: None if asked.url.startswith(peer.url) else wrong.append(asked.url),
    )
    page.set_default_timeout(10_000)
    page.goto(peer.url)
    if wait:
        page.wait_for_selector(wait)
    yield page
    assert page.title() == "querycache"
    context.close()
    assert wrong == []


def text(page: Page, name: str) -> str:
    return page.locator(f'[data-show="{name}"]').first.text_content() or ""


def table(page: Page, name: str) -> dict[str, list[str]]:
    """The cells of each row, by its first."""
    script = "body => [...body.rows].map(row => [...row.cells].map(cell => cell.textContent))"
    rows: list[list[str]] = page.eval_on_selector(f'[data-rows="{name}"]', script)
    return {row[0]: row[1:] for row in rows}


def figures(page: Page) -> dict[str, object]:
    """What the page shows of that which /stats/cache tells."""
    kinds = {
        name: [*cells[:2], *cells[3:7], *cells[8:11]]
        for name, cells in table(page, "kinds").items()
    }
    shown = ("hits", "reads", "hit_rate", "operations", "l1_bytes", "l1_size", "saved")
    return {
        "kinds": kinds,
        "tiers": table(page, "tiers"),
        **{name: text(page, name) for name in shown},
    }


def told(stats: dict[str, Any]) -> dict[str, object]:
    """The same from /stats/cache."""
    reads = stats["hit_count"] + stats["miss_count"]
    l1, l2 = stats["tiers"]["l1"], stats["tiers"]["l2"]

    def kind(one: dict[str, Any]) -> list[str]:
        asked = one["hit_count"] + one["miss_count"]
        counts = [count(one[name]) for name in ("l1_hits", "l2_hits", "miss_count", "loads")]
        took = [ms(one["latency"][step]["p95_ms"]) for step in ("l2", "load")]
        saved = span(one["saved_s"] or None)
        return [count(asked), percent(one["hit_rate"], asked), *counts, *took, saved]

    def tier(one: dict[str, Any], took: dict[str, Any], *rest: str) -> list[str]:
        rate = percent(one["hit_rate"], one["total_operations"])
        return [
            count(one["hits"]),
            count(one["misses"]),
            rate,
            ms(took["p50_ms"]),
            ms(took["p95_ms"]),
            *rest,
        ]

    dash = span(None)
    return {
        "kinds": {name: kind(one) for name, one in stats["kinds"].items()},
        "tiers": {
            "L1": tier(
                l1,
                stats["latency"]["l1"],
                dash,
                count(l1["size"]),
                count(l1["evictions"]),
                size(l1["memory_usage_bytes"]),
            ),
            "L2": tier(
                l2,
                stats["latency"]["l2"],
                count(l2["errors"]),
                count(l2["entries"]),
                dash,
                size(l2["bytes"]),
            ),
        },
        "hits": count(stats["hit_count"]),
        "reads": count(reads),
        "hit_rate": percent(stats["hit_rate"], reads),
        "operations": count(stats["total_operations"]),
        "l1_bytes": size(l1["memory_usage_bytes"]),
        "l1_size": count(l1["size"]),
        "saved": span(stats["savings"]["ms"] / 1e3 or None),
    }


def ms(value: float | None) -> str:
    return span(None if value is None else value / 1e3)


def eventually(page: Page, holds: Callable[[], bool], what: str) -> None:
    for _ in range(100):
        if holds():
            return
        page.wait_for_timeout(100)
    pytest.fail(f"not within 10 s: {what}")


def test_without_a_script_the_figures_are_those_of_stats(browser: Browser, shop: Served):
    with opened(browser, shop.peer, wait="", java_script_enabled=False) as page:

        def drawn() -> bool:
            page.reload()
            found = DRAWN in page.content()
            if not found:
                shop.search("ledger")
            return found

        eventually(page, drawn, "reads between two samples are drawn")
        stats = shop.stats()
        content = page.content()
        assert page.locator("#run-doctor").is_hidden()
    figures_at_load = re.findall(r'data-show="(?:hits|reads)">([^<]*)<', content)
    assert figures_at_load == [told(stats)["hits"], told(stats)["reads"]]
    assert DRAWN in content


def test_the_figures_are_those_of_stats_and_follow_a_search(browser: Browser, shop: Served):
    with opened(browser, shop.peer) as page:
        for query in ("value added tax", "ledger", "ledger"):
            shop.search(query)
        wanted = count(shop.stats()["hit_count"])
        eventually(page, lambda: text(page, "hits") == wanted, "the page follows the searches")
        eventually(page, lambda: figures(page) == told(shop.stats()), "all figures are equal")
        assert table(page, "projects")["shop"][:2] == ["fresh", "3"]
        assert page.locator('.plot path[data-series="hit"]').get_attribute("d")
        assert page.locator('td.spark path[data-series="hit.search"]').get_attribute("d")


def test_what_others_wrote_is_shown_as_text(browser: Browser, shop: Served):
    with opened(browser, shop.peer) as page:
        shop.run(shop.peer.post("/invalidate", {"tag": HOSTILE}))
        page.wait_for_selector("td.mono:has-text('onerror')")
        finding = {"name": HOSTILE, "severity": "error", "evidence": HOSTILE, "remedy": HOSTILE}

        def answer(route: Route) -> None:
            body = msgspec.json.encode({"findings": [finding]})
            route.fulfill(status=200, content_type="application/json", body=body)

        page.route("**/doctor", answer)
        page.click("#run-doctor")
        page.wait_for_selector("#doctor-found code")
        assert page.locator("#doctor-found code").text_content() == HOSTILE
        assert page.locator("img").count() == 0


def test_the_range_and_a_moment_can_be_chosen(browser: Browser, shop: Served):
    with opened(browser, shop.peer) as page:
        day = page.get_by_role("button", name="24 h")
        day.click()
        assert day.get_attribute("aria-pressed") == "true"
        assert page.locator("[data-from]").first.text_content() == "60 min ago"
        page.get_by_role("button", name="10 min").click()
        page.locator(".plot").first.hover()
        assert re.fullmatch(r"\d\d:\d\d:\d\d UTC", page.locator(".moment").text_content() or "")
        page.mouse.move(0, 0)
        assert page.locator(".moment").count() == 0


def test_the_script_draws_and_words_as_the_server_does(browser: Browser, shop: Served):
    values = [None, 0.25, 0.5, None, None, 0.75, 1.0, 3e-6, 0.002, None]
    numbers = [0, 12, 1536, 150 * 1024, 300 * 2**20, 5 * 2**30, 2**38]
    seconds = [2.5e-6, 0.012, 3.0, 59.4, 600.0, 9100.0]
    with opened(browser, shop.peer) as page:
        for scale, groups, kept in (("share", 5, 10), ("latency", 200, 20), ("auto", 3, 12)):
            drawn = page.evaluate(
                "([values, kept, scale, groups]) =>"
                " pathOf(values, kept, scale, topOf([values]), groups)",
                [values, kept, scale, groups],
            )
            top = chart.top_of([values])
            assert drawn == chart.path(values, kept, scale, top, groups), scale
        said = page.evaluate("numbers => numbers.map(bytes)", numbers)
        assert said == [size(number) for number in numbers]
        said = page.evaluate("seconds => seconds.map(duration)", seconds)
        assert said == [span(second) for second in seconds]


def test_on_a_phone_nothing_is_wider_than_the_screen(browser: Browser, shop: Served):
    phone = {"width": 360, "height": 740}
    with opened(browser, shop.peer, viewport=phone, color_scheme="dark") as page:
        assert page.evaluate("document.documentElement.scrollWidth") == phone["width"]
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"


def test_a_token_is_asked_for_and_kept_nowhere(browser: Browser, tmp_path: Path):
    with served(tmp_path, QUERYCACHE_TOKEN=TOKEN) as locked:
        page = browser.new_page()
        page.goto(locked.peer.url)
        assert page.locator("main").is_hidden()
        page.get_by_label("Token of this server").fill("another")
        page.get_by_role("button", name="Open").click()
        page.wait_for_selector("#refused:has-text('not valid')")
        page.get_by_label("Token of this server").fill(TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector(LIVE)
        assert page.locator("main").is_visible()
        assert table(page, "projects").keys() == {"shop"}
        assert page.context.storage_state() == {"cookies": [], "origins": []}
        assert TOKEN not in page.content()
        assert page.input_value("#token") == ""
        page.reload()
        assert page.locator("main").is_hidden()
        page.close()


def test_what_breaks_is_shown_and_a_lost_server_is_told(browser: Browser, tmp_path: Path):
    with served(tmp_path) as broken:
        page = browser.new_page()
        page.goto(broken.peer.url)
        page.wait_for_selector(LIVE)
        broken.run(broken.peer.app.core.l2.close())
        page.wait_for_selector(".status[data-state=degraded]")
        assert "store.unusable" in table(page, "findings")
    page.wait_for_selector("#live[data-state=lost]")
    page.close()
