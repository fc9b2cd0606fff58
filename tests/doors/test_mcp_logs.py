"""The log of a server."""

from __future__ import annotations

import logging

import pytest

from querycache.doors.mcp_server.logs import log_to_stderr


def test_ours_is_told_from_its_level_on_and_warnings_of_others(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    root, ours = logging.getLogger(), logging.getLogger("querycache")
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(ours, "level", ours.level)
    log_to_stderr("INFO")
    logging.getLogger("querycache.doors").info("ours")
    logging.getLogger("uvicorn.error").info("theirs")
    logging.getLogger("uvicorn.error").warning("their warning")
    said = capsys.readouterr()
    assert said.out == ""
    lines = [
        line.partition(" INFO ")[2] or line.partition(" WARNING ")[2]
        for line in said.err.splitlines()
    ]
    assert lines == ["querycache.doors: ours", "uvicorn.error: their warning"]


def test_a_log_that_is_there_is_left_alone():
    before = list(logging.getLogger().handlers)
    log_to_stderr("DEBUG")
    assert before
    assert logging.getLogger().handlers == before
