"""Where a server's log goes: standard error, since standard output may carry a protocol."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Literal

import msgspec


class JsonLines(logging.Formatter):
    """Each line is one JSON object: time (ISO 8601, UTC), level, logger, message, and where there
    are any the fields of an event, and an error's traceback.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One object, whatever the message holds."""
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": _plain(record.getMessage()),
        }
        event = getattr(record, "event", None)
        if event is not None:
            fields["event"] = event
        if record.exc_info:
            fields["error"] = _plain(self.formatException(record.exc_info))
        encoded = msgspec.json.encode(fields, enc_hook=repr)
        return encoded.decode()


def _plain(text: str) -> str:
    """A text without lone surrogates, which JSON can't hold."""
    return text.encode("utf-8", "backslashreplace").decode()


def log_to_stderr(level: str, form: Literal["text", "json"] = "text") -> None:
    """Lines of querycache from `level` on, and warnings of all else; nothing where the process has
    a log already.
    """
    if logging.getLogger().handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if form == "json" else text)
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("querycache").setLevel(level)
