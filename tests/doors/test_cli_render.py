"""Answers for people, and how progress is told."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from rich.console import Console, RenderableType

from querycache.doors.cli.demo import Asked, Place, Shown
from querycache.doors.cli.options import examples
from querycache.doors.cli.progress import counting, indexing
from querycache.doors.cli.render import agreement, health_text, type_table
from querycache.doors.cli.render_demo import demonstration
from querycache.doors.cli.render_search import searched
from querycache.doors.cli.stats import Stats
from querycache.observe.registry import Published
from querycache.ports.latency import Latency
from querycache.ports.origins import Hit
from querycache.ports.spending import Spending
from querycache.ports.tiers import L2Info, Pool
from querycache.testing import FakeClock
from querycache.usecases.index_project import Indexed, Progress
from querycache.usecases.list_keys import Pattern
from querycache.usecases.search_code import CacheInfo, Searched
from querycache.usecases.show_status import (
    Checks,
    Health,
    KindCounts,
    Pending,
    Snapshot,
    Tiers,
    TierStats,
    together,
)
from querycache.usecases.show_status.counts import l1_stats, l2_stats
from querycache.usecases.show_status.health import memory_usage, pool_stats

EVIL = "\x1b[31m\u202e"
COLD = CacheInfo(
    hit=False,
    tier="none",
    kind="search",
    age_s=0.0,
    generation=3,
    miss_reason="absent",
    saved_ms=0.0,
    stale=False,
)


def printed(shown: RenderableType, width: int = 160) -> str:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()


def found(*lines: str, query: str = "close the door") -> Searched:
    hit = Hit("a.py", 10, 9 + len(lines), "house", "python", 0.5, "\n".join(lines))
    return Searched(query, "shop", (hit,), COLD, 12.0)


def test_a_snippet_is_the_part_that_fits_the_question():
    lines = [f"filler({number})" for number in range(40)]
    lines[30] = "door.close()"
    shown = searched(found(*lines), coloured=False).plain
    assert "40 │ door.close()" in shown
    assert "filler(0)" not in shown
    assert shown.count("│") == 6
    assert "10 │ filler(0)" in searched(found(*lines, query="zebra"), coloured=False).plain


def test_a_snippet_in_colours_says_the_same():
    answer = found("def close(door):", "    return door", "", "")
    plain = searched(answer, coloured=False)
    coloured = searched(answer, coloured=True)
    assert coloured.plain == plain.plain
    assert len(coloured.spans) > len(plain.spans)


def test_long_lines_are_cut():
    shown = searched(found("x" * 5000), coloured=False).plain
    assert max(map(len, shown.splitlines())) < 130
    assert "…" in shown


def test_lines_fit_the_terminal():
    shown = searched(found("x" * 5000), coloured=False, columns=60).plain
    assert max(len(line) for line in shown.splitlines() if "│" in line) == 60


def test_what_each_kind_holds_adds_up():
    made = printed(
        type_table(
            [
                Pattern("codebase_rag:embedding:_:*", 2, 3 << 20),
                Pattern("codebase_rag:search:shop:*", 1, 1 << 19),
                Pattern("codebase_rag:search:site:*", 1, 1 << 19),
            ]
        )
    )
    rows = [line.split() for line in made.splitlines()]
    assert rows[0] == ["Memory", "usage", "by", "type:"]
    assert rows[2:] == [["embedding", "3.0", "MB", "75.0%"], ["search", "1.0", "MB", "25.0%"]]
    assert "-" in printed(type_table([Pattern("codebase_rag:other:_:*", 1, 0)]))


def test_search_results_hold_nothing_raw():
    hit = Hit(f"{EVIL}.py", 1, 1, EVIL, EVIL, 0.5, f"{EVIL} = 1")
    answer = Searched("x", EVIL, (hit,), COLD, 1.0, (f"{EVIL}.py",))
    for coloured in (True, False):
        text = searched(answer, coloured=coloured).plain
        assert not set(text) & set(EVIL[:1] + EVIL[-1:])
        assert "left out, it is changing" in text


def test_nothing_found_is_said():
    answer = Searched("x", "shop", (), COLD, 1.0)
    assert searched(answer, coloured=False).plain.startswith("nothing found\n")


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]):
    clock = FakeClock()
    with counting("warming", clock) as count:
        for done in range(1, 11):
            clock.now += 1.0
            count(done, 10, f"path{EVIL}")
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        rf"warming: {done} of 10 path\x1b[31m\u202e" for done in (3, 6, 9)
    ]


def test_waiting_for_another_process_is_told_once(capsys: pytest.CaptureFixture[str]):
    clock = FakeClock()
    with indexing(clock) as tell:
        for _ in range(5):
            tell(Progress(0, 0, waiting=True))
        clock.now += 5.0
        tell(Progress(1, 2, "a.py"))
    assert capsys.readouterr().err.splitlines() == [
        "another process is indexing this project; waiting for it",
        "indexing: 1 of 2 a.py",
    ]


def test_examples_are_shown_as_they_are_typed():
    assert examples("keys [a]") == "[dim]Example:[/]\n\n  querycache keys \\[a]"
    assert examples("a", "b").startswith("[dim]Examples:[/]")


HEALTH = Health(
    status="healthy",
    redis_connected=False,
    redis_ping_time=None,
    memory_usage={},
    connection_pool_stats={},
    last_error=None,
    check_timestamp=0.0,
    l2_backend="sqlite",
    l2_connected=True,
    l2_ping_time=0.1,
    l2_entries=7,
    l2_bytes=7000,
    l2_max_bytes=None,
    problems=(),
)


def test_statistics_are_sums_over_processes():
    one = Snapshot(
        {"search": KindCounts(l1_hits=3, misses=1, sets=1)}, uptime_s=10.0, l1_size=1, l1_bytes=100
    )
    other = Snapshot(
        {"search": KindCounts(l2_hits=2, misses=2)}, deletes=4, uptime_s=60.0, l1_bytes=50
    )
    told = [
        (Published(11, 5.0, "serve", 70.0, {}), one),
        (Published(22, 1.0, f"mcp{EVIL}", 70.0, {}), other),
    ]
    counted = TierStats(True, 3, 5, 0), TierStats(False, 0, 0, 0)
    sums = together([one, other])
    tiers = Tiers(l1_stats(counted[0], sums), l2_stats(counted[1], HEALTH, sums))
    stats = Stats(told, tiers, 80.0)
    answer = stats.as_json()
    assert (answer.hit_count, answer.miss_count, answer.delete_count) == (5, 3, 4)
    assert (answer.last_reset, answer.uptime_s) == (1.0, 79.0)
    assert answer.tiers.l1.memory_usage_bytes == 150
    assert [process.pid for process in answer.processes] == [11, 22]
    assert answer.kinds["search"].hit_rate == pytest.approx(5 / 8)
    shown = printed(stats.as_text())
    assert r"2 living processes: serve 11 (up 75 s), mcp\x1b[31m\u202e 22 (up 79 s)" in shown
    assert "62.5%" in shown
    assert "the tiers were not compared yet" in shown


def test_statistics_show_latencies_reasons_and_savings():
    timed = Latency()
    for seconds in (1.5e-6, 0.003, 0.003, 2.5):
        timed.observe(seconds)
    counts = KindCounts(
        l1_hits=6,
        misses=4,
        loads=4,
        saved_s=1.0,
        l1=timed,
        l2=timed,
        load=timed,
        reasons={"absent": 3, "evicted": 1, EVIL: 1},
    )
    spent = Spending(
        texts_asked=1000,
        texts_sent=250,
        calls_asked=10,
        calls_sent=3,
        characters_asked=80_000,
        characters_sent=20_000,
    )
    one = Snapshot({"embedding": counts}, spending=spent)
    sums = together([one])
    counted = TierStats(True, 6, 4, 0)
    tiers = Tiers(l1_stats(counted, sums), l2_stats(counted, HEALTH, sums))
    told = [(Published(11, 5.0, "serve", 70.0, {}, f"far{EVIL}"), one)]
    shown = printed(Stats(told, tiers, 80.0, 0.1).as_text())
    assert r"1 living process: serve 11 on far\x1b[31m\u202e (up 75 s)" in shown
    assert r"misses: 3 never asked before, 1 evicted, 1 \x1b[31m\u202e" in shown
    assert "750 of 1,000 embeddings, 7 calls, about 15,000 tokens, 1 s" in shown
    assert "0.0015 by the price of a token" in shown
    rows = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert rows["L1"].split()[-6:] == ["3.5", "ms", "4.4", "s", "4.88", "s"]
    assert "p95" in rows["tier"]
    assert "load p95" in rows["kind"]


def test_statistics_on_a_narrow_terminal_cut_no_number():
    one = Snapshot({"embedding": KindCounts(l1_hits=123_456, misses=76_544, loads=4)})
    counted = TierStats(True, 123_456, 76_544, 0)
    sums = together([one])
    tiers = Tiers(l1_stats(counted, sums), l2_stats(counted, HEALTH, sums))
    stats = Stats([(Published(11, 5.0, "serve", 70.0, {}), one)], tiers, 80.0)
    shown = printed(stats.as_text(), 40)
    rows = {line.split()[0]: line.split() for line in shown.splitlines() if line.strip()}
    assert rows["L1"] == ["L1", "123,456", "76,544", "61.7%", "0"]
    assert rows["embedding"] == ["embedding", "123,456", "0", "76,544"]
    assert max(map(len, shown.splitlines())) <= 40


def test_how_far_the_tiers_agree_is_said_in_a_line():
    checks = Checks().after(1200, 3, at=70.0, took_s=0.1)
    told = agreement(checks, Pending(dirty=4, recovery=5), 1.25, 80.0)
    assert told == (
        "comparisons of the tiers: 1, of 1,200 entries, 3 of which differed;"
        " the last one 10 s ago;"
        " 4 entries to be written, 5 to recover; an invalidation takes 1.2 ms"
    )


def test_a_server_is_shown_with_its_memory_and_connections():
    info = L2Info(
        "redis", connected=True, memory_bytes=1024, pool=Pool(created=2, in_use=1), lag_ms=2.0
    )
    health = replace(
        HEALTH,
        redis_connected=True,
        memory_usage=memory_usage(info),
        connection_pool_stats=pool_stats(info, 20),
        invalidation_lag_ms=2.0,
    )
    shown = printed(health_text(health))
    assert "memory 1.00K, peak 0B; connections 1 in use of 2, at most 20" in shown
    assert "an invalidation takes 2.0 ms" in shown


def test_the_demonstration_shows_every_run():
    indexed = Indexed("demo", 2, 2, 0, 9, 9, 0, 1, 250.0, {})
    again = Indexed("demo", 2, 0, 0, 9, 0, 0, 1, 5.0, {})
    place = [Place(f"{EVIL}.py", 1, 2, EVIL, 0.5)]
    asked = [
        Asked("why", "first", "none", 20.0, 1, 0, place),
        Asked("why", "again", "l1", 0.1, 0, 1, place),
        Asked("why", "new process", "l2", 2.0, 0, 1, place),
        Asked("how", "first", "none", 20.0, 1, 0, []),
        Asked("how", "again", "l1", 0.1, 0, 1, []),
        Asked("how", "new process", "l2", 2.0, 0, 1, []),
    ]
    shown = printed(demonstration(Shown("/shop", indexed, asked, again, 3000.0)))
    assert "/shop: 2 files, 9 chunks, 9 texts embedded in 250 ms" in shown
    assert r"\x1b[31m\u202e.py:1-2" in shown
    assert "nothing found" in shown
    assert "6 answers, 4 of them from the cache" in shown
    assert "2 embedding calls made, 4 saved; 3 s in all" in shown
