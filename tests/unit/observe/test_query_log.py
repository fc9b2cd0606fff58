"""What was asked is kept, weighed by its age, bounded, and its owner's alone."""

from __future__ import annotations

from pathlib import Path

from querycache.observe.query_log import QueryLog
from querycache.ports.origins import Question
from querycache.testing import FakeClock

WEEK = 7 * 24 * 3600.0


def asked(text: str) -> Question:
    return Question(text, None)


def test_what_was_asked_most_comes_first_and_fades(tmp_path: Path):
    clock = FakeClock()
    log = QueryLog(tmp_path / "queries", clock)
    filtered = Question("old", None, "keyword", 3, "python", "src/*")
    for _ in range(3):
        log.record("p", asked("old"))
    log.record("p", filtered)
    clock.wall_now += 2 * WEEK
    for text in ("new", "mid", "new"):
        log.record("p", asked(text))
    log.record("other", asked("of another project"))
    assert log.popular("p") == [asked("new"), asked("mid"), asked("old"), filtered]
    assert log.popular("p", 1) == [asked("new")]


def test_it_is_bounded_and_survives_garbage(tmp_path: Path):
    log = QueryLog(tmp_path / "queries", FakeClock())
    log.record("p", asked("kept"))
    (file,) = (tmp_path / "queries").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_bytes(b'\xff garbage\n{"t": 1}\n{"t": 1, "q": "x", "m": "magic"}\n' * 30_000)
    log.record("p", asked("kept"))
    assert file.stat().st_size < 1024 * 1024
    assert log.popular("p") == [asked("kept")]
    log.record("p", asked("x" * 5000))
    log.record("p", asked("no text \udcff"))
    assert log.popular("p") == [asked("kept")]


def test_long_names_stay_apart_and_a_log_is_forgotten(tmp_path: Path):
    log = QueryLog(tmp_path / "queries", FakeClock())
    for letter in "ab":
        log.record(f"{'é' * 90}{letter}", asked(letter))
    assert log.popular(f"{'é' * 90}a") == [asked("a")]
    log.forget(f"{'é' * 90}a")
    assert log.popular(f"{'é' * 90}a") == []
    assert log.popular(f"{'é' * 90}b") == [asked("b")]


def test_switched_off_it_neither_records_nor_tells(tmp_path: Path):
    clock = FakeClock()
    off = QueryLog(tmp_path / "queries", clock, on=False)
    off.record("p", asked("secret"))
    assert not (tmp_path / "queries").exists()
    QueryLog(tmp_path / "queries", clock).record("p", asked("kept"))
    assert off.popular("p") == []
    off.forget("p")
    assert not list((tmp_path / "queries").iterdir())
