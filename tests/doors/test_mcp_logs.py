"""The log of a server."""

from __future__ import annotations

import json
import logging
from pathlib import Path

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


def test_a_log_of_json_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, ours = logging.getLogger(), logging.getLogger("querycache")
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(ours, "level", ours.level)
    log_to_stderr("INFO", "json")
    ours.info('a "line"\nand another \ud800', extra={"event": {"type": "Hit", "path": Path("/x")}})
    try:
        raise ValueError("no number \udc80")  # noqa: TRY301 -- to be told
    except ValueError:
        ours.exception("failed")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["level"], first["logger"]) == ("INFO", "querycache")
    assert first["message"] == 'a "line"\nand another \\ud800'
    assert first["event"]["type"] == "Hit"
    assert first["time"].endswith("+00:00")
    assert second["message"] == "failed"
    assert "ValueError: no number \\udc80" in second["error"]
