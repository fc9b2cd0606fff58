"""Where a server's log goes: standard error, since standard output may carry a protocol."""

from __future__ import annotations

import logging
import sys


def log_to_stderr(level: str) -> None:
    """Lines of querycache from `level` on, and warnings of all else; nothing where the process has
    a log already.
    """
    if not logging.getLogger().handlers:
        logging.basicConfig(
            stream=sys.stderr,
            level=logging.WARNING,
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )
        logging.getLogger("querycache").setLevel(level)
