"""The command `querycache`: how each command line ends.

What takes long to load is loaded inside, so that Ctrl-C ends it in one line from the start.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import TextIOWrapper

INTERRUPTED = 130


def run(args: Sequence[str] | None = None) -> None:
    """Runs a command line (None: the process's) and exits: 0 fine, 1 failed, 2 wrong use, 130
    interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # whatever a file is called, it can be printed
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _ended(args)
    except KeyboardInterrupt:
        status = INTERRUPTED
    if status == INTERRUPTED:
        sys.stderr.write("stopped; what was done so far is kept\n")
    sys.exit(status)


def _ended(args: Sequence[str] | None) -> int:
    """The exit status of a command line; an error is told."""
    from querycache.doors.cli import program, running, screen

    session = program.Session()
    try:
        program.app(args=args, prog_name="querycache", obj=session)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
    except Exception as error:  # noqa: BLE001 -- the last place that can tell it
        status = running.failed(error, debug=session.debug)
    else:
        status = 0
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        screen.hang_up()
    return status
